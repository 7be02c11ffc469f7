"""A plane to look at beliefs on: where those of training tasks lie, and where a session's lies among them."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from ccm_runtime.belief import NoveltyStats

MAX_POINTS = 256
_CORNERS = 64  # of an outline
Pair = tuple[FiniteFloat, FiniteFloat]


class BeliefMap(BaseModel):
    """The plane in which the latents of training tasks vary the most, and some of them, after a whole trial each.

    Attributes:
        centre: Mean of the latents, `[latent]`.
        axes: Two directions, orthonormal, the one of larger variance first, `[2][latent]`; zeros where there is none.
        points: Latents on the plane, `[points][2]`.
        tasks: The task of each point, `[points][params]`.
        labels: Name of each entry of a task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    centre: tuple[FiniteFloat, ...]
    axes: tuple[tuple[FiniteFloat, ...], tuple[FiniteFloat, ...]]
    points: tuple[Pair, ...] = Field(max_length=MAX_POINTS)
    tasks: tuple[tuple[FiniteFloat, ...], ...] = Field(max_length=MAX_POINTS)
    labels: tuple[str, ...]

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if {len(axis) for axis in self.axes} != {len(self.centre)}:
            raise ValueError(f"axes must have the {len(self.centre)} entries of the centre")
        if len(self.tasks) != len(self.points) or any(len(task) != len(self.labels) for task in self.tasks):
            raise ValueError(f"expected a task of {len(self.labels)} entries for each of {len(self.points)} points")
        return self

    def place(self, latents: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """Return where latents `[n, latent]` lie on the plane, `[n, 2]`."""
        rows = np.asarray(latents, np.float64).reshape(-1, len(self.centre))
        placed: NDArray[np.float64] = (rows - np.asarray(self.centre)) @ np.asarray(self.axes).T
        return placed


def known_region(plane: BeliefMap, stats: NoveltyStats) -> list[tuple[float, float]]:
    """Return the outline on the plane of where novelty is below 1: the shadow of an ellipsoid.

    Args:
        plane: Where to draw it.
        stats: What novelty is told by.
    """
    axes = np.asarray(plane.axes)
    shadow = axes @ np.linalg.inv(np.asarray(stats.precision, np.float64)) @ axes.T * stats.threshold**2
    values, vectors = np.linalg.eigh(shadow)
    turns = np.linspace(0.0, 2.0 * np.pi, _CORNERS, endpoint=False)
    circle = np.stack((np.cos(turns), np.sin(turns)), 1)
    outline = circle * np.sqrt(np.maximum(values, 0.0)) @ vectors.T + plane.place([stats.mean])[0]
    return [(float(x), float(y)) for x, y in outline]


def plane_of(stats: NoveltyStats) -> BeliefMap:
    """Return the plane of a bundle that holds no map: that of the largest spread at any time of a trial, no points."""
    covariance = np.linalg.inv(np.asarray(stats.precision, np.float64))
    return BeliefMap(centre=stats.mean, axes=principal_axes(covariance), points=(), tasks=(), labels=())


def principal_axes(covariance: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the two directions of largest variance, `[2][latent]`; each one's largest entry is positive."""
    _, vectors = np.linalg.eigh(covariance)
    axes = np.zeros((2, len(covariance)))
    leading = vectors.T[::-1][:2]
    axes[: len(leading)] = leading
    signs = [1.0 if axis[np.abs(axis).argmax()] >= 0 else -1.0 for axis in axes]
    first, second = (axes * np.asarray(signs)[:, None]).tolist()
    return tuple(first), tuple(second)
