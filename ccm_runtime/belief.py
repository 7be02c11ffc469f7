"""What the runtime knows about a belief: a fixed-size vector that an encoder folds transitions into.

The runtime never looks inside: `belief' = fold(belief, transitions)` and `latent = read(belief)` are the encoder's.
Only a belief that the manifest calls *additive* (a product of Gaussian factors, kept as sums of natural parameters)
may be merged, by addition.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Array = NDArray[np.float32]
# What is too far off to be computed is this far off: no number would compare as not novel at all.
_LARGEST = np.finfo(np.float32).max
# Decorates what computes such distances: that numbers overflow there is no news.
FAR_OFF = np.errstate(over="ignore", invalid="ignore")


@dataclass(frozen=True, slots=True)
class Transitions:
    """A chunk of transitions for `n` beliefs, `t` long, padded to the same length.

    Attributes:
        observation: `[n, t, obs]`.
        action: `[n, t, act]`, in environment units.
        reward: `[n, t, 1]`, the environment's own reward.
        next_observation: `[n, t, obs]`.
        valid: `[n, t, 1]`, 1 where a row is a transition and 0 where it is padding.
    """

    observation: Array
    action: Array
    reward: Array
    next_observation: Array
    valid: Array


class Folded(NamedTuple):
    """What an encoder answers.

    Attributes:
        belief: `[n, belief]`.
        latent_mean: `[n, latent]`.
        latent_std: `[n, latent]`.
    """

    belief: Array
    latent_mean: Array
    latent_std: Array


class NoveltyStats(BaseModel):
    """Where the beliefs of the training tasks lie, from whole trials of the trained explorer.

    Attributes:
        mean: Centre of the latents, `[latent]`.
        precision: Inverse covariance of the latents, `[latent][latent]`.
        threshold: Mahalanobis distance that the latents of 99 % of trials on training tasks never exceed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    threshold: float

    def __eq__(self, other: object) -> bool:
        # Not pydantic's, which compares the cached arrays too.
        return isinstance(other, NoveltyStats) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.mean)

    @cached_property
    def mean_array(self) -> Array:
        """`mean`, `[latent]`."""
        return np.asarray(self.mean, np.float32)

    @cached_property
    def scaled_precision(self) -> Array:
        """`precision` in units of the threshold, `[latent, latent]`."""
        return (np.asarray(self.precision) / self.threshold**2).astype(np.float32)


class ExperienceStats(BaseModel):
    """What transitions and returns on training tasks are like, from whole trials of the trained agent.

    A transition is the vector of observation, action, reward and change of the observation.

    Attributes:
        mean: Centre of the transitions, `[obs + act + 1 + obs]`.
        scale: Their standard deviations.
        precision: Inverse covariance of the transitions in units of `scale`.
        threshold: Distance that 199 of 200 trials on training tasks never exceed.
        typical_return: Median return of the executor's episodes on training tasks.
        low_return: Return that no episode of the executor falls below on 199 of 200 training tasks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    threshold: float
    typical_return: float
    low_return: float

    def __eq__(self, other: object) -> bool:
        # Not pydantic's, which compares the cached arrays too.
        return isinstance(other, ExperienceStats) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.mean)

    @cached_property
    def _whitening(self) -> tuple[Array, Array]:
        """Offset and factor that turn a transition into a vector whose length is its distance over the threshold."""
        root = np.linalg.cholesky(np.asarray(self.precision, np.float64))
        factor = root / np.asarray(self.scale)[:, None] / self.threshold
        return np.asarray(self.mean, np.float32), factor.astype(np.float32)

    @FAR_OFF
    def surprise(self, transitions: Array) -> Array:
        """Distance of transitions `[n, .]` to those of training tasks, in units of the threshold, `[n]`."""
        mean, factor = self._whitening
        whitened = (transitions - mean) @ factor
        distance: Array = np.sqrt(np.fmin(np.vecdot(whitened, whitened), _LARGEST))
        return distance

    def shortfall(self, episode_return: float) -> float:
        """How far a return of the executor is below the typical one; 1 is at `low_return`."""
        margin = max(self.typical_return - self.low_return, 1e-6)
        return max(0.0, (self.typical_return - episode_return) / margin)


def certainty(latent_std: Array) -> Array:
    """Share of the prior's variance that the context has removed, `[n]` in 0 (nothing known) to 1 (all known).

    Args:
        latent_std: Posterior standard deviations under a unit prior, `[n, latent]`.
    """
    left = np.minimum(latent_std, 1.0)
    removed: Array = 1.0 - np.vecdot(left, left) / latent_std.shape[-1]
    return removed


@FAR_OFF
def novelty(latent_mean: Array, stats: NoveltyStats) -> Array:
    """Mahalanobis distance to the training tasks' latents, in units of their 99 % threshold, `[n]`; above 1 is novel.

    Args:
        latent_mean: `[n, latent]`.
        stats: Statistics of the training tasks, from the manifest.
    """
    offset = latent_mean - stats.mean_array
    squared = np.vecdot(offset @ stats.scaled_precision, offset)
    distance: Array = np.sqrt(np.maximum(np.fmin(squared, _LARGEST), 0.0))
    return distance


def merge(first: Array, second: Array) -> Array:
    """Belief after both contexts, `[..., belief]` each; only for additive beliefs (natural parameters add up)."""
    return first + second
