"""Several runs side by side: those that differ by the seed alone are put together, and what differs gives the names."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ccm_runtime import __version__
from ccm_runtime.errors import CheckpointMissingError
from ccm_training.checkpoint import load_agent, parameter_hash
from ccm_training.config import parse_config
from ccm_training.envs.registry import get_family
from ccm_training.evaluation import ReportTrials, trials_for_report
from ccm_training.experiment import adaptation_of
from ccm_training.report import NUM_TASKS
from ccm_training.run_folder import METRICS, RunSummary, differing, flat_settings, read_metrics, summarize
from ccm_training.standing import RunScore
from ccm_training.sweep import show_value

Array = NDArray[np.float64]
NUM_BELIEFS = 6


@dataclass(frozen=True)
class Member:
    """One run.

    Attributes:
        summary: How far it has come.
        steps: Environment steps of its evaluations while training, `[points]`.
        scores: Of these, `[points]`.
        parameters: As `ccm hash` prints; `None`: it was stopped before its first checkpoint.
    """

    summary: RunSummary
    steps: Array
    scores: Array
    parameters: str | None


@dataclass(frozen=True)
class Group:
    """Runs that differ by the seed alone.

    Attributes:
        label: What sets it apart from the others.
        family: Task family.
        held_out: What its held-out tasks are drawn by: their family, number and seed.
        explore_episodes: K.
        ceiling: Mean return of the best policy that knows the task; `None`: unknown, and scores are returns.
        members: Its runs, by seed.
        trials: On held-out tasks, by one of them; `None`: not tried, or the method has no belief.
        tried: Seed of that one.
        parameters: Name of each entry of a task.
    """

    label: str
    family: str
    held_out: tuple[str, int, int]
    explore_episodes: int
    ceiling: float | None
    members: Sequence[Member]
    trials: ReportTrials | None = None
    tried: int | None = None
    parameters: Sequence[str] = ()

    @property
    def scores(self) -> list[RunScore]:
        """Last score of each run that has one."""
        found = [one.summary for one in self.members]
        return [RunScore(one.score, one.task_scores) for one in found if one.score is not None]


@dataclass(frozen=True)
class Comparison:
    """Everything that the page of several runs shows.

    Attributes:
        groups: In the order in which their first runs were given.
        differences: Settings that are not the same in all groups, by dotted name: the value in each group.
        versions: Of what made the page.
        written_at: When.
    """

    groups: Sequence[Group]
    differences: Mapping[str, Sequence[Any]]
    versions: str
    written_at: datetime


def read_comparison(run_dirs: Sequence[Path]) -> Comparison:
    """Gather what runs left behind, and try one agent of each group on held-out tasks.

    Raises:
        CheckpointMissingError: One of the folders holds no run.
    """
    together: dict[str, list[RunSummary]] = {}
    for run_dir in dict.fromkeys(run_dirs):
        found = summarize(run_dir)
        together.setdefault(str(_settings(found)), []).append(found)
    configs = [_settings(members[0]) for members in together.values()]
    groups = [
        _group(label, sorted(members, key=lambda run: run.config["seed"]))
        for label, members in zip(label_groups(configs), together.values(), strict=True)
    ]
    for place in range(min(NUM_BELIEFS, len(groups))):
        groups[place] = _tried(groups[place])
    return Comparison(
        groups=groups,
        differences=differing(configs),
        versions=f"ccm {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        written_at=datetime.now(UTC),
    )


def _settings(run: RunSummary) -> dict[str, Any]:
    """Its settings but for the seed, those among them that are newer than the run."""
    return parse_config(dict(run.config), where=str(run.run_dir)).model_dump(mode="json") | {"seed": None}


def label_groups(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short name for each of several settings: what sets them apart, and no more than that."""
    flats, differ = [flat_settings(config) for config in configs], differing(configs)
    chosen: list[str] = []
    for name in sorted(
        differ, key=lambda name: ["family", "method"].index(name) if name in {"family", "method"} else 2
    ):
        if len(_apart(flats, [*chosen, name])) > len(_apart(flats, chosen)):
            chosen.append(name)
    if not chosen:
        return [f"{flat['family']} {flat['method']}" for flat in flats]
    return [
        ", ".join(
            str(flat[name]) if name in {"family", "method"} else f"{name}={show_value(flat.get(name))}"
            for name in chosen
        )
        for flat in flats
    ]


def _apart(flats: Sequence[Mapping[str, Any]], names: Sequence[str]) -> set[str]:
    return {str([flat.get(name) for name in names]) for flat in flats}


def _group(label: str, found: Sequence[RunSummary]) -> Group:
    config = parse_config(dict(found[0].config), where=str(found[0].run_dir))
    family = get_family(config.family)
    ceilings = family.ceiling(family.sample_tasks("test", config.tasks.num_test, config.tasks.seed))
    return Group(
        label=label,
        family=config.family,
        held_out=(config.family, config.tasks.num_test, config.tasks.seed),
        explore_episodes=adaptation_of(config, family).explore_episodes,
        ceiling=None if ceilings is None else float(ceilings.mean()),
        members=[_member(summary) for summary in found],
        parameters=family.task.entries,
    )


def _member(summary: RunSummary) -> Member:
    lines = [line for line in read_metrics(summary.run_dir / METRICS) if line.get("score") is not None]
    try:
        parameters: str | None = parameter_hash(summary.run_dir)
    except CheckpointMissingError:
        parameters = None
    return Member(
        summary=summary,
        steps=np.array([line["env_steps"] for line in lines], np.float64),
        scores=np.array([line["score"] for line in lines], np.float64),
        parameters=parameters,
    )


def _tried(group: Group) -> Group:
    """The group with trials of the first of its runs that has saved an agent, if that has a belief."""
    for one in group.members:
        if one.parameters is not None:
            run = load_agent(one.summary.run_dir)
            if not run.config.what.encoder:
                return group
            trials = trials_for_report(one.summary.run_dir, NUM_TASKS)
            return replace(group, trials=trials, tried=one.summary.config["seed"])
    return group
