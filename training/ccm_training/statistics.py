"""What few seeds allow one to say: interquartile means, bootstrap intervals, probability of improvement.

Scores are tables `[seeds, tasks]`: one agent a seed, each tried on its held-out tasks. The measures are those of
Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (2021).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Table = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number and how sure of it we are.

    Attributes:
        value: The statistic of the scores.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def interquartile_mean(scores: ArrayLike, axis: int | tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """Mean of the middle half of the scores.

    Where the number of scores is no multiple of four, a quarter rounded down is left out at either end.

    Args:
        scores: Any shape, not empty.
        axis: Axes to average over; `None`: all.
    """
    table = np.asarray(scores, np.float64)
    axes = np.arange(table.ndim) if axis is None else np.atleast_1d(axis)
    last = np.moveaxis(table, axes, range(-len(axes), 0))
    ordered = np.sort(last.reshape(*last.shape[: table.ndim - len(axes)], -1), axis=-1)
    quarter = ordered.shape[-1] // 4
    return np.asarray(ordered[..., quarter : ordered.shape[-1] - quarter].mean(-1))


def estimate(
    scores: ArrayLike,
    statistic: Callable[..., NDArray[np.float64]] = interquartile_mean,
    *,
    seed: int = 0,
    num_resamples: int = 2_000,
) -> Estimate:
    """Estimate a statistic over seeds and tasks, with its stratified bootstrap interval (95 %, percentile).

    A resample draws seeds with replacement and, within each drawn seed (the stratum), its tasks with replacement: it
    varies as another training and another set of tasks would. With one seed it varies by tasks alone.

    Args:
        scores: `[seeds, tasks]`, finite; `[tasks]` is one seed.
        statistic: Reduces the given `axis`.
        seed: Of the resampling.
        num_resamples: How often.

    Raises:
        ValueError: The scores are empty, not finite or of another shape.
    """
    table = _checked(scores)
    rng = np.random.default_rng(seed)
    low, high = _interval(statistic(_resample(table, num_resamples, rng), axis=(1, 2)))
    return Estimate(float(statistic(table, axis=(0, 1))), low, high)


def probability_of_improvement(
    scores: ArrayLike,
    baseline: ArrayLike,
    *,
    seed: int = 0,
    num_resamples: int = 2_000,
) -> Estimate:
    """Chance that a run scores above a run of the baseline on the same task; a tie counts half.

    It is the Mann-Whitney statistic of the seeds, averaged over tasks. Tasks are resampled in common, seeds
    independently.

    Args:
        scores: `[seeds, tasks]`.
        baseline: `[seeds of the baseline, the same tasks]`.
        seed: Of the resampling.
        num_resamples: How often.

    Raises:
        ValueError: The tables are not on the same number of tasks, empty or not finite.
    """
    ours, theirs = _checked(scores), _checked(baseline)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"expected scores on the same tasks, got {ours.shape[1]} and {theirs.shape[1]}")
    difference = ours[:, None] - theirs[None]
    wins = (difference > 0.0) + 0.5 * (difference == 0.0)  # [seeds, seeds of the baseline, tasks]
    rng = np.random.default_rng(seed)
    resampled = np.empty(num_resamples)
    for index in range(num_resamples):
        drawn = (rng.integers(size, size=size) for size in wins.shape)
        resampled[index] = wins[np.ix_(*drawn)].mean()
    return Estimate(float(wins.mean()), *_interval(resampled))


def _resample(table: Table, num: int, rng: np.random.Generator) -> Table:
    """Return `num` resamples, `[num, seeds, tasks]`."""
    seeds, tasks = table.shape
    row = rng.integers(seeds, size=(num, seeds, 1))
    column = rng.integers(tasks, size=(num, seeds, tasks))
    return table[row, column]


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _checked(scores: ArrayLike) -> Table:
    table = np.atleast_2d(np.asarray(scores, np.float64))
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"scores: expected a table [seeds, tasks], got shape {list(np.shape(scores))}")
    if not np.isfinite(table).all():
        raise ValueError("scores: every score must be finite")
    return table
