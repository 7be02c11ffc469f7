"""How groups of runs stand: over seeds and tasks where every run keeps its tasks' scores, else over seeds.

Runs of a group differ by the seed alone. All groups of a table are taken alike, so that its rows can be compared.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ccm_training.statistics import Estimate, estimate, probability_of_improvement

OVER_SEEDS = (
    "Score: interquartile mean over seeds (with fewer than four: the mean). Interval: 95 % bootstrap over seeds alone; "
    "tasks are not resampled, as not every run here keeps its score of each (older runs, and those that are not at "
    "their end, keep the mean), so that the interval of few seeds is too narrow."
)
OVER_SEEDS_AND_TASKS = (
    "Mean: over all held-out tasks of all seeds, as single runs have it. Score (IQM): the same without the best and "
    "the worst quarter. Interval: 95 % stratified bootstrap of the IQM over seeds and, within each, tasks. That of one "
    "seed covers tasks alone, not what another training would bring."
)
BETTER = (
    "Better than the first: chance that a run scores above a run of the first row on the same task (a tie counts "
    "half), where both have several seeds; while its 95 % interval holds 0.5, it is open which is better."
)


class RunScore(NamedTuple):
    """What a run keeps of its score.

    Attributes:
        mean: Over held-out tasks.
        by_task: Of each of them; empty: not kept.
    """

    mean: float
    by_task: Sequence[float] = ()


class Standing(NamedTuple):
    """What a group of runs comes to.

    Attributes:
        mean: Over its runs.
        score: Interquartile mean with its 95 % interval, over seeds and tasks, or over seeds.
        over: What the interval covers: `seeds and tasks`, `seeds` or `tasks`; empty: nothing, there is but one score.
    """

    mean: float
    score: Estimate
    over: str

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval, if there is one."""
        return (self.score.low, self.score.high) if self.over else None


def keep_tasks(groups: Sequence[Sequence[RunScore]]) -> bool:
    """Whether every run keeps its score of each task, those of a group of as many; false without any run."""
    found = [{len(run.by_task) for run in group} for group in groups if group]
    return bool(found) and all(len(sizes) == 1 and 0 not in sizes for sizes in found)


def standings(groups: Sequence[Sequence[RunScore]]) -> list[Standing | None]:
    """What each group comes to; `None` for one without a run that has a score."""
    by_task = keep_tasks(groups)
    found: list[Standing | None] = []
    for group in groups:
        table = np.array([run.by_task if by_task else [run.mean] for run in group], np.float64)
        over = " and ".join(name for name, size in zip(("seeds", "tasks"), table.shape, strict=False) if size > 1)
        mean = float(np.mean([run.mean for run in group])) if group else 0.0
        found.append(Standing(mean, estimate(table), over) if group else None)
    return found


def chances_over_first(groups: Sequence[Sequence[RunScore]]) -> list[Estimate | None]:
    """Chance that a run of each group scores above a run of the first on the same task (a tie counts half).

    Args:
        groups: All on the same tasks; a group that was not tried on those of the first is given empty.

    Returns:
        `None` for the first, where tasks' scores are not kept, and where either has one seed: its interval would tell
        two trainings apart, and not two choices of settings.
    """
    if not groups or len(groups[0]) < 2 or not keep_tasks(groups):
        return [None] * len(groups)
    first, *others = [[run.by_task for run in group] for group in groups]
    return [None, *(probability_of_improvement(scores, first) if len(scores) > 1 else None for scores in others)]


def show_interval(interval: Sequence[float] | None, over: str | None) -> str:
    """An interval as tables have it, with a word if it says nothing of seeds."""
    if interval is None:
        return "-"
    return f"{interval[0]:.3f} to {interval[1]:.3f}{' (tasks alone)' if over == 'tasks' else ''}"
