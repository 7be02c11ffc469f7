"""What the results of a figure come to: scores with intervals, chances of doing better, and who made them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ccm_training.benchmark.budgets import BudgetName
from ccm_training.benchmark.plan import FIGURES, Arm, FigureName
from ccm_training.benchmark.result import RunResult
from ccm_training.statistics import Estimate, estimate, probability_of_improvement

CONTEXT = ("retrieval", "silhouette", "accuracy", "information", "effective_rank", "certain_after")


class Row(BaseModel):
    """One arm on one family.

    Attributes:
        family: Task family.
        arm: Method and variant.
        label: What tables call it.
        seeds: Of its runs.
        tasks: Held-out tasks of each run.
        score: Interquartile mean, and the 95 % interval over seeds and tasks within them.
        seed_means: Mean score of each run.
        mean_return: Of the first executor episode.
        by_episode: Mean score of every episode of a trial.
        explore_episodes: K.
        met: Share of the trials that met a reward while exploring; `None` where there is no exploring or no ceiling, or
            acting costs something: returns do not tell it then.
        score_if_met: Mean score of these trials; `None` also if there is none.
        env_steps: Of a run; the most, where they differ.
        updates: Of a run.
        minutes: Of the quickest and of the slowest run.
        context: What the beliefs are worth: mean over the runs, and its interval.
        trained: The command of each run, with SEED for its seed.
        recorded: The commands that took the runs in.
        dates: First and last day on which a run came to its end.
        machines: Where they were recorded.
        commits: Of the source trees they were recorded with.
    """

    family: str
    arm: str
    label: str
    seeds: list[int]
    tasks: int
    score: Estimate
    seed_means: list[float]
    mean_return: float
    by_episode: list[float]
    explore_episodes: int
    met: float | None
    score_if_met: float | None
    env_steps: int
    updates: int
    minutes: tuple[float, float]
    context: dict[str, Estimate]
    trained: str
    recorded: list[str]
    dates: tuple[str, str]
    machines: list[str]
    commits: list[str]


class Odds(BaseModel):
    """Chance that a run of one arm scores above a run of another on the same task."""

    family: str
    better: str
    worse: str
    chance: Estimate


class Summary(BaseModel):
    """All numbers of a figure.

    Attributes:
        figure: Which.
        budget: What its runs were allowed to spend.
        of_ceiling: By family, whether scores are shares of the task's ceiling; else they are returns.
        rows: Family by family.
        odds: Family by family.
    """

    figure: FigureName
    budget: BudgetName
    of_ceiling: dict[str, bool]
    rows: list[Row]
    odds: list[Odds]


Groups = dict[str, dict[Arm, list[RunResult]]]


def groups_of(figure: FigureName, results: Iterable[RunResult]) -> Groups:
    """The results that a figure shows, by family and arm, by seed; families with one that learns and one beside it."""
    wanted, kept = FIGURES[figure], list(results)
    groups: Groups = {}
    for family in wanted.families:
        found = {
            arm: sorted((one for one in kept if (one.family, one.arm) == (family, arm.name)), key=lambda one: one.seed)
            for arm in wanted.arms
        }
        found = {arm: runs for arm, runs in found.items() if runs}
        if any(arm.learns for arm in found) and sum(arm.method != "random" for arm in found) > 1:
            groups[family] = found
    return groups


def summarize(figure: FigureName, budget: BudgetName, results: Iterable[RunResult]) -> Summary:
    """All numbers of a figure, from the results that are kept."""
    groups = groups_of(figure, results)
    return Summary(
        figure=figure,
        budget=budget,
        of_ceiling={family: _has_ceiling(arms) for family, arms in groups.items()},
        rows=[_row(arm, runs, _met(runs, arms)) for arms in groups.values() for arm, runs in arms.items()],
        odds=[odds for family, arms in groups.items() for odds in _odds(figure, family, arms)],
    )


def scores_of(run: RunResult) -> NDArray[np.float64]:
    """Each episode's return, as a share of the task's ceiling if there is one, `[tasks, episodes]`."""
    returns = np.asarray(run.returns, np.float64)
    return returns if run.ceilings is None else returns / np.asarray(run.ceilings, np.float64)[:, None]


def _table(runs: Sequence[RunResult]) -> NDArray[np.float64]:
    """Scores of the first executor episode, `[seeds, tasks]`."""
    return np.stack([scores_of(run)[:, run.scored] for run in runs])


def _met(runs: Sequence[RunResult], arms: dict[Arm, list[RunResult]]) -> NDArray[np.bool_] | None:
    """Whether a trial met a reward while exploring, `[seeds, tasks]`; `None` where returns do not tell.

    Where some return of the family is negative, acting costs something, which may hide the rewards of an episode.
    """
    costs = any(np.min(run.returns) < 0.0 for every in arms.values() for run in every)
    if costs or runs[0].ceilings is None or runs[0].explore_episodes == 0:
        return None
    return np.stack([np.asarray(run.returns)[:, : run.scored].max(1) > 0.0 for run in runs])


def _row(arm: Arm, runs: Sequence[RunResult], met: NDArray[np.bool_] | None) -> Row:
    table, first = _table(runs), runs[0]
    return Row(
        family=first.family,
        arm=arm.name,
        label=arm.label,
        seeds=[run.seed for run in runs],
        tasks=table.shape[1],
        score=_rounded(estimate(table)),
        seed_means=[_round(mean) for mean in table.mean(1)],
        mean_return=_round(np.mean([np.asarray(run.returns)[:, run.scored].mean() for run in runs])),
        by_episode=[_round(mean) for mean in np.mean([scores_of(run).mean(0) for run in runs], 0)],
        explore_episodes=first.explore_episodes,
        met=None if met is None else _round(met.mean()),
        score_if_met=None if met is None or not met.any() else _round(table[met].mean()),
        env_steps=max(run.env_steps for run in runs),
        updates=max(run.updates for run in runs),
        minutes=(min(run.minutes for run in runs), max(run.minutes for run in runs)),
        context=_context(runs),
        trained=first.trained.replace(f"--seed {first.seed} ", "--seed SEED ").replace(
            f"-{first.arm}-{first.seed}", f"-{first.arm}-SEED"
        ),
        recorded=_each(runs, lambda run: run.recorded.command),
        dates=(min(run.finished for run in runs), max(run.finished for run in runs)),
        machines=_each(runs, lambda run: run.recorded.machine),
        commits=_each(runs, lambda run: run.recorded.commit),
    )


def _odds(figure: FigureName, family: str, arms: dict[Arm, list[RunResult]]) -> list[Odds]:
    by_name = {arm.name: (arm.label, _table(runs)) for arm, runs in arms.items()}
    found = []
    for better, worse in FIGURES[figure].against:
        if better in by_name and worse in by_name:
            (label, ours), (other, theirs) = by_name[better], by_name[worse]
            chance = _rounded(probability_of_improvement(ours, theirs))
            found.append(Odds(family=family, better=label, worse=other, chance=chance))
    return found


def _context(runs: Sequence[RunResult]) -> dict[str, Estimate]:
    contexts = [run.context for run in runs if run.context is not None]
    values = {name: [getattr(context, name) for context in contexts] for name in CONTEXT}
    return {
        name: _rounded(estimate(np.array(of_runs, np.float64)[:, None], np.mean))
        for name, of_runs in values.items()
        if of_runs and None not in of_runs
    }


def _has_ceiling(arms: dict[Arm, list[RunResult]]) -> bool:
    return all(run.ceilings is not None for runs in arms.values() for run in runs)


def _each(runs: Sequence[RunResult], of: Callable[[RunResult], str | None]) -> list[str]:
    """What runs say, each once, in their order; what they do not know is left out."""
    return [text for text in dict.fromkeys(of(run) for run in runs) if text is not None]


def _round(value: Any) -> float:
    """Six significant digits: the same on every processor."""
    return float(f"{value:.6g}")


def _rounded(found: Estimate) -> Estimate:
    return Estimate(*(_round(value) for value in found))
