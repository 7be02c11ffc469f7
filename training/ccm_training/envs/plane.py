"""Pictures of the plane that the point robots live on, in plain numpy."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ccm_training.envs.family import Table

EXTENT_M = (-1.5, 1.5, -1.0, 2.0)
"""Left, right, bottom and top of the picture."""
_PAPER, _PATH, _START = (250, 250, 247), (31, 41, 55), (107, 114, 128)
_GOALS = ((217, 119, 6), (37, 99, 235))
_BAND = (203, 213, 225)

Pixels = NDArray[np.float32]


def draw(path: Table, goals: Table, size: int = 256, bands: Sequence[tuple[float, float]] = ()) -> NDArray[np.uint8]:
    """Draw a path over goals.

    Args:
        path: Positions, `[steps, 2]` in m.
        goals: `[goals, (x, y, radius)]` in m.
        size: Pixels of a side.
        bands: From which y to which another law holds, in m; shaded.

    Returns:
        `[size, size, 3]`, the y axis pointing up.
    """
    left, right, bottom, top = EXTENT_M
    width = (right - left) / size  # of a pixel, m
    columns = np.linspace(left, right, size, dtype=np.float32)
    rows = np.linspace(top, bottom, size, dtype=np.float32)
    pixels = np.stack(np.meshgrid(columns, rows), -1)
    picture = np.broadcast_to(np.array(_PAPER, np.float32), (*pixels.shape[:2], 3)).copy()
    for low, high in bands:
        _blend(picture, _BAND, 0.5 * _inside(np.abs(pixels[..., 1] - (low + high) / 2.0) - (high - low) / 2.0, width))
    for (x, y, radius), colour in zip(goals, _GOALS, strict=False):
        distance: Pixels = np.hypot(pixels[..., 0] - x, pixels[..., 1] - y)
        _blend(picture, colour, 0.25 * _inside(distance - radius, width))
        edge: Pixels = np.abs(distance - radius) - np.float32(0.7 * width)
        _blend(picture, colour, _inside(edge, width))
    _blend(picture, _START, _inside(np.linalg.norm(pixels, axis=-1) - 2.5 * width, width))
    if len(path) > 1:
        _blend(picture, _PATH, _inside(_distance_to_path(pixels, path) - 0.7 * width, width))
    _blend(picture, _PATH, _inside(np.linalg.norm(pixels - path[-1], axis=-1) - 3.5 * width, width))
    return np.rint(picture).astype(np.uint8)


def _inside(distance: Pixels, width: float) -> Pixels:
    """Share of each pixel inside a shape, from the signed distance to its edge."""
    share: Pixels = np.clip(0.5 - distance / np.float32(width), 0.0, 1.0)
    return share


def _blend(picture: Pixels, colour: tuple[int, int, int], share: Pixels) -> None:
    picture += share[..., None] * (np.array(colour, np.float32) - picture)


def _distance_to_path(pixels: Pixels, path: Table) -> Pixels:
    """Distance of every pixel to the nearest segment, in m."""
    nearest: Pixels = np.full(pixels.shape[:2], np.inf, np.float32)
    for begin, end in itertools.pairwise(path):
        along = end - begin
        share = np.clip((pixels - begin) @ along / max(float(along @ along), 1e-12), 0.0, 1.0)
        nearest = np.minimum(nearest, np.linalg.norm(pixels - begin - share[..., None] * along, axis=-1))
    return nearest
