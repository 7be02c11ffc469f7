"""`ccm sweep`."""

import json
import shlex
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ccm_runtime.commands.seeds import parse_seeds
from ccm_runtime.commands.show import table_console
from ccm_runtime.durable import write_whole
from ccm_runtime.errors import CheckpointMissingError, RunError
from ccm_training.ray_sweep import Cluster, check_installed, run_sweep
from ccm_training.run_folder import summarize
from ccm_training.sweep import (
    Outcome,
    Planned,
    count_states,
    plan_sweep,
    rows_of_runs,
    rows_over_seeds,
    show_as_markdown,
    table_of_sweep,
    what_intervals_are,
)


def sweep(
    configs: Sequence[str],
    settings: Sequence[str],
    seeds: str,
    out: Path,
    cluster: Cluster,
    *,
    wandb: str | None,
    as_json: bool,
) -> None:
    """Do every run that is not done yet, and say what came of all.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        RunError: Some of them failed.
    """
    check_installed()
    planned = plan_sweep(configs, settings, parse_seeds(seeds))
    out.mkdir(parents=True, exist_ok=True)
    watch = _Watch(planned, out)
    with watch.display:
        outcomes, stopped_by = run_sweep(planned, out.resolve(), cluster, watch.look, wandb=wandb)
    table = _write(planned, outcomes, out)
    if as_json:
        typer.echo(json.dumps(table))
    else:
        _show(table, out)
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.state == "failed"}
    for name, outcome in failed.items():
        typer.echo(f"failed: {name} (code {outcome.exit_code}): {outcome.error}", err=True)
    if stopped_by is not None:
        told = f"stopped by {signal.Signals(stopped_by).name}: {count_states(planned, outcomes)}"
        typer.echo(f"{told}; the same command goes on", err=True)
        raise typer.Exit(128 + stopped_by)
    if failed:
        raise RunError(
            f"{len(failed)} of {len(planned)} runs failed ({', '.join(failed)}); the same command tries them again"
        )


class _Watch:
    """What a sweep shows while it is under way, on standard error, and its table as far as it is known."""

    def __init__(self, planned: Sequence[Planned], out: Path) -> None:
        self._planned, self._out, self._told = planned, out, 0
        self._iterations = {one.name: one.config.collect.iterations for one in planned}
        self._come = {name: _iteration(out / name) for name in self._iterations}
        console = Console(stderr=True)
        self.display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} iterations"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._bar = self.display.add_task("sweep", total=sum(self._iterations.values()), note="")

    def look(self, ended: Mapping[str, Outcome], running: Collection[Planned]) -> None:
        """Show how far all runs have come."""
        new = list(ended)[self._told :]
        for name in (*new, *(one.name for one in running)):
            finished = name in ended and ended[name].state == "finished"
            self._come[name] = self._iterations[name] if finished else _iteration(self._out / name)
        note = f"{count_states(self._planned, ended)}, {len(running)} under way"
        self.display.update(self._bar, completed=sum(self._come.values()), note=note)
        for name in new:
            score = "" if ended[name].score is None else f", score {ended[name].score:.3f}"
            self.display.console.print(f"{ended[name].state}: {name}{score}", highlight=False)
        if new:
            _write(self._planned, ended, self._out)
        self._told = len(ended)


def _iteration(run_dir: Path) -> int:
    try:
        return summarize(run_dir).iteration
    except CheckpointMissingError:
        return 0  # it has only just been asked for


def _write(planned: Sequence[Planned], outcomes: Mapping[str, Outcome], out: Path) -> dict[str, Any]:
    table = table_of_sweep(planned, outcomes, out)
    write_whole(out / "sweep.json", json.dumps(table, indent=2) + "\n")
    write_whole(out / "sweep.md", show_as_markdown(table) + "\n")
    return table


def _show(table: Mapping[str, Any], out: Path) -> None:
    console = table_console()
    for head, rows in (rows_of_runs(table), rows_over_seeds(table)):
        shown = Table(*head, box=None, pad_edge=False)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
        console.print()
    console.print(what_intervals_are(table), highlight=False)
    console.print()
    console.print(f"tables: {out / 'sweep.json'}, {out / 'sweep.md'}", highlight=False, soft_wrap=True)
    quoted = shlex.quote(str(out))
    typer.echo(f"next: ccm report {quoted}/*/    or    ccm runs {quoted}", err=True)
