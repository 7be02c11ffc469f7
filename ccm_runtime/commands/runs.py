"""`ccm runs`."""

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from ccm_runtime.commands.show import table_console
from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError, ConfigError
from ccm_training.run_folder import RunSummary, differing, find_runs, summarize

_LEAST = 10  # columns of a run's name, in the narrowest terminal
SORTS = ("name", "state", "family", "method", "seed", "score", "env_steps", "time_s", "changed")


def runs(paths: Sequence[Path], *, sort: str, as_json: bool) -> None:
    """List the runs in a folder; or, of several runs, show what differs and what each came to.

    Raises:
        CheckpointMissingError: There is no run there.
        CheckpointCorruptError: Of the only run in a folder, or of one of several runs, a file cannot be read.
        ConfigError: There is no such order.
    """
    if sort not in SORTS:
        raise ConfigError(f"--sort {sort!r}: expected one of {', '.join(SORTS)}")
    if len(paths) == 1:
        if not paths[0].is_dir():
            raise CheckpointMissingError(
                f"{paths[0]}: no folder there; give the one that holds runs, as `ccm train` writes"
            )
        found = _readable(find_runs(paths[0]))
        if not found:
            raise CheckpointMissingError(f"{paths[0]}: no run in it or below; a run holds a config.yaml")
    else:
        found = [summarize(run_dir) for run_dir in paths]
    shown = sorted(found, key=lambda run: _order(run, sort))
    if as_json:
        typer.echo(json.dumps([_as_json(run) for run in shown]))
    elif len(paths) == 1:
        _list(shown, paths[0])
    else:
        _compare(shown)


def _readable(run_dirs: Sequence[Path]) -> list[RunSummary]:
    """What can be read, with a warning for each of the others; where nothing can, the first one's error."""
    found, errors = [], []
    for run_dir in run_dirs:
        try:
            found.append(summarize(run_dir))
        except CheckpointCorruptError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    for damage in errors:
        warnings.warn(str(damage), stacklevel=2)
    return found


def _order(run: RunSummary, sort: str) -> tuple[Any, ...]:
    """Best and newest first; names, families and the like by the alphabet."""
    highest_first = {"score": run.score, "env_steps": run.env_steps, "time_s": run.time_s, "changed": run.changed_at}
    if sort in highest_first:
        value = highest_first[sort]
        return (float("inf") if value is None else -value, str(run.run_dir))
    return ({"name": "", "state": run.state}.get(sort, run.config.get(sort, "")), str(run.run_dir))


def _list(found: Sequence[RunSummary], folder: Path) -> None:
    in_common, varying = _in_common(found)
    table = Table("run", "state", *varying, box=None, pad_edge=False)
    for name in ("done", "score", "env steps", "time", "changed"):
        table.add_column(name, justify="right")
    for column in table.columns:
        column.overflow, column.no_wrap = "fold", column.header not in {"run", "family"}
    table.columns[0].min_width = _LEAST
    for run in found:
        name = run.run_dir.relative_to(folder).as_posix()
        table.add_row(
            folder.name if name == "." else name,
            run.state,
            *(str(run.config[setting]) for setting in varying),
            f"{run.iteration / run.iterations:.0%}" if run.learns else "-",
            _score(run.score),
            _short(run.env_steps),
            _duration(run.time_s),
            f"{_duration(max(time.time() - run.changed_at, 0.0))} ago",
        )
    console = table_console()
    if in_common:
        console.print(" · ".join(f"{name} {value}" for name, value in in_common.items()) + "\n", highlight=False)
    console.print(table)
    typer.echo("\nseveral of them, side by side: ccm runs RUN_DIR RUN_DIR", err=True)


def _in_common(found: Sequence[RunSummary]) -> tuple[dict[str, Any], list[str]]:
    """Of family, method and seed: what is the same in all of several runs, and the names of the others."""
    names = ("family", "method", "seed")
    values = {name: {run.config[name] for run in found} for name in names}
    same = {name: found[0].config[name] for name in names if len(found) > 1 and len(values[name]) == 1}
    return same, [name for name in names if name not in same]


def _short(number: int) -> str:
    """`820`, `264 k`, `5.2 M`."""
    if number < 10_000:
        return str(number)
    return f"{number / 1e3:.0f} k" if number < 1_000_000 else f"{number / 1e6:.1f} M"


def _compare(found: Sequence[RunSummary]) -> None:
    table = Table("", *(str(run.run_dir) for run in found), box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for name, values in differing([run.config for run in found]).items():
        table.add_row(name, *("-" if value is None else _written(value) for value in values))
    table.add_section()
    told: Mapping[str, Any] = {
        "state": [run.state for run in found],
        "iteration": [f"{run.iteration}/{run.iterations}" for run in found],
        "score [95 % over tasks alone]" if any(run.interval for run in found) else "score": [
            _score(run.score) + _interval(run.interval) for run in found
        ],
        "returns by episode": [" ".join(f"{value:.1f}" for value in run.returns) or "-" for run in found],
        "env steps": [f"{run.env_steps:,}" for run in found],
        "updates": [f"{run.updates:,}" for run in found],
        "time": [_duration(run.time_s) for run in found],
    }
    for name, cells in told.items():
        table.add_row(name, *cells)
    table_console().print(table)
    typer.echo("\nas curves: ccm report RUN_DIR RUN_DIR", err=True)


def _as_json(run: RunSummary) -> dict[str, Any]:
    return {
        "run_dir": str(run.run_dir),
        "state": run.state,
        "family": run.config["family"],
        "method": run.config["method"],
        "seed": run.config["seed"],
        "iteration": run.iteration,
        "iterations": run.iterations,
        "score": run.score,
        "interval": run.interval,
        "returns": run.returns,
        "env_steps": run.env_steps,
        "updates": run.updates,
        "time_s": run.time_s,
        "changed_at": round(run.changed_at, 3),
        "settings": run.config,
    }


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _duration(seconds: float) -> str:
    """In the one or two units that say most: `42 s`, `13 min`, `2 h 05`, `3 d`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d}" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"
