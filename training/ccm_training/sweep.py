"""A sweep as values: the runs that there are to do, and the tables of what came of them. `ray_sweep.py` does them."""

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ccm_runtime.errors import ConfigError
from ccm_training.config import Config, load_config
from ccm_training.envs.registry import get_family
from ccm_training.standing import OVER_SEEDS, OVER_SEEDS_AND_TASKS, RunScore, show_interval, standings

_LONGEST_NAME = 120


@dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Attributes:
        name: Of its folder: what varies in the sweep, and the seed.
        varied: Value of each setting that varies; `config` is the preset.
        config: All its settings.
    """

    name: str
    varied: Mapping[str, Any]
    config: Config


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended.

    Attributes:
        state: `finished`; `failed`; `stopped`, as the sweep was: the same command goes on.
        score: At the end: the adaptation score, or the first executor episode's return where there is no ceiling.
        env_steps: Of training, as far as it came.
        minutes: Of training, over all attempts.
        parameters: As `ccm hash` prints.
        error: Why it failed.
        exit_code: What `ccm train` would have ended with; 0: it finished.
        task_scores: What the score is the mean of, a task each; empty: not kept.
    """

    state: Literal["finished", "failed", "stopped"]
    score: float | None = None
    env_steps: int = 0
    minutes: float = 0.0
    parameters: str | None = None
    error: str | None = None
    exit_code: int = 0
    task_scores: tuple[float, ...] = ()


def plan_sweep(configs: Sequence[str], settings: Sequence[str], seeds: Sequence[int]) -> list[Planned]:
    """All runs: configs x values of the settings x seeds, in this order.

    Args:
        configs: Names of presets or YAML files.
        settings: As `--set`, with commas between values: `policy.discount=0.9,0.95`, `networks.hidden=[64,64],[8]`.
        seeds: Of the runs.

    Raises:
        ConfigError: A config or a setting is wrong, or two runs would be the same.
    """
    axes = [("config", [Path(name).stem for name in configs]), *(_axis(setting) for setting in settings)]
    for name, times in ((name, [key for key, _ in axes].count(name)) for name, _ in axes):
        if times > 1:
            raise ConfigError(f"--set {name} is there {times} times; give its values once, with commas between them")
    varying = {name for name, values in axes if len(values) > 1}
    planned = []
    for config, *values in itertools.product(configs, *(values for _, values in axes[1:])):
        chosen = dict(zip((name for name, _ in axes), (Path(config).stem, *values), strict=True))
        overrides = [f"{name}={json.dumps(value)}" for name, value in chosen.items() if name != "config"]
        varied = {name: value for name, value in chosen.items() if name in varying}
        for seed in seeds:
            resolved = load_config(config, overrides, seed=seed)
            planned.append(Planned(_name(Path(config).stem, varied, seed), varied, resolved))
    _check(planned)
    return planned


def table_of_sweep(planned: Sequence[Planned], outcomes: Mapping[str, Outcome], out: Path) -> dict[str, Any]:
    """Everything that came of a sweep, as JSON: each run, and the runs that differ by the seed alone together.

    Args:
        planned: Its runs.
        outcomes: By name, of those that ended.
        out: Folder of the sweep.
    """
    runs = [
        {"name": one.name, "run_dir": str(out / one.name), "settings": dict(one.varied), "seed": one.config.seed}
        | (_as_json(outcomes[one.name]) if one.name in outcomes else {"state": "waiting"})
        for one in planned
    ]
    return {"runs": runs, "over_seeds": list(_over_seeds(planned, outcomes))}


def count_states(planned: Sequence[Planned], outcomes: Mapping[str, Outcome]) -> str:
    """How many runs finished, and how those that ended otherwise did: `1 of 4 runs finished, 2 stopped`."""
    states = Counter(outcome.state for outcome in outcomes.values())
    others = (f", {states[state]} {state}" for state in ("failed", "stopped") if states[state])
    return f"{states['finished']} of {len(planned)} runs finished{''.join(others)}"


def show_as_markdown(table: Mapping[str, Any]) -> str:
    """Both tables of a sweep as Markdown, and what the first one's intervals are."""
    over_seeds, of_runs = (
        "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
        for head, rows in (rows_over_seeds(table), rows_of_runs(table))
    )
    return f"{over_seeds}\n\n{what_intervals_are(table)}\n\n{of_runs}"


def what_intervals_are(table: Mapping[str, Any]) -> str:
    """What the scores over seeds are, and their intervals."""
    return OVER_SEEDS_AND_TASKS if _over_tasks(table) else OVER_SEEDS


def rows_of_runs(table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row a run: its header, and its rows."""
    varied = _varied(table["runs"])
    head = [*varied, "seed", "state", "score", "env steps", "minutes"]
    rows = [
        [
            *(show_value(run["settings"][name]) for name in varied),
            str(run["seed"]),
            run["state"],
            _number(run.get("score")),
            f"{run.get('env_steps', 0):,}",
            f"{run.get('minutes', 0.0):.1f}",
        ]
        for run in table["runs"]
    ]
    return head, rows


def rows_over_seeds(table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row for each choice of settings: its header, and its rows."""
    varied = _varied(table["over_seeds"])
    over_tasks = _over_tasks(table)
    scores = ["mean", "score (IQM)", "95 % over seeds and tasks"] if over_tasks else ["score (IQM)", "95 % over seeds"]
    head = [*varied, "seeds", *scores, "minutes"]
    rows = [
        [
            *(show_value(group["settings"][name]) for name in varied),
            f"{group['finished']} of {len(group['seeds'])}",
            *([_number(group["mean"])] if over_tasks else []),
            _number(group["score"]),
            show_interval(group["interval"], group["over"]),
            f"{group['minutes']:.1f}",
        ]
        for group in table["over_seeds"]
    ]
    return head, rows


def show_value(value: Any) -> str:
    """A setting's value as one writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _over_seeds(planned: Sequence[Planned], outcomes: Mapping[str, Outcome]) -> Iterable[dict[str, Any]]:
    groups: dict[str, list[Planned]] = {}
    for one in planned:
        groups.setdefault(json.dumps(one.varied), []).append(one)
    ended = [[outcomes[one.name] for one in members if one.name in outcomes] for members in groups.values()]
    scores = [
        [RunScore(one.score, one.task_scores) for one in group if one.state == "finished" and one.score is not None]
        for group in ended
    ]
    for members, group, found in zip(groups.values(), ended, standings(scores), strict=True):
        yield {
            "settings": dict(members[0].varied),
            "seeds": [one.config.seed for one in members],
            "finished": sum(outcome.state == "finished" for outcome in group),
            "mean": None if found is None else found.mean,
            "score": None if found is None else found.score.value,
            "interval": None if found is None or found.interval is None else list(found.interval),
            "over": None if found is None or found.interval is None else found.over,
            "minutes": sum(outcome.minutes for outcome in group),
        }


def _over_tasks(table: Mapping[str, Any]) -> bool:
    return any("tasks" in (group["over"] or "") for group in table["over_seeds"])


def _as_json(outcome: Outcome) -> dict[str, Any]:
    """All but its tasks' scores, which its run keeps."""
    return {name: value for name, value in asdict(outcome).items() if name != "task_scores"}


def _axis(setting: str) -> tuple[str, list[Any]]:
    """A setting and its values, e.g. of `policy.discount=0.9,0.95`."""
    name, equals, text = setting.partition("=")
    try:
        values = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        values = None
    if not equals or not name or not values:
        raise ConfigError(f"--set {setting!r}: expected key=value,value,..., e.g. --set policy.discount=0.9,0.95")
    if name == "seed":
        raise ConfigError(f"--set {setting}: the seeds of a sweep are given by --seeds, e.g. --seeds 0..4")
    return name, values


def _name(config: str, varied: Mapping[str, Any], seed: int) -> str:
    """Readable, the same for the same choice, and fit for a folder."""
    parts = [config, *(f"{name}={_as_a_word(value)}" for name, value in varied.items() if name != "config")]
    said = ",".join([*parts, f"seed={seed}"])
    name = re.sub(r"[^\w.,=+-]+", "-", said)
    if name == said and len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]},{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def _as_a_word(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else show_value(value)


def _check(planned: Sequence[Planned]) -> None:
    """Refuse what only a run under way would find, as far as it can be known before."""
    for family in dict.fromkeys(one.config.family for one in planned):
        get_family(family)
    names = [one.name for one in planned]
    if same := sorted(name for name in set(names) if names.count(name) > 1):
        raise ConfigError(f"two runs of the sweep would be {same[0]}; give each config and each value once")


def _varied(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(entries[0]["settings"])


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"
