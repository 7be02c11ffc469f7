"""`ccm runs`, `ccm report` and `ccm hash`: what may be set of looking at runs."""

# Imports inside commands: see `ccm_runtime.cli`. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002

from pathlib import Path
from typing import Annotated

import typer

from ccm_runtime.cli_options import AsJson
from ccm_runtime.commands.extras import needs


def runs(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER|RUN_DIR", help="A folder of runs (default: runs), or several runs."),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="name, state, family, method, seed, or best first: score, env_steps, time_s, changed."
        ),
    ] = "name",
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder and below it: how far each has come, what it scores, and whether it is under way.

    Of several runs, show the settings that differ and what each came to, side by side.
    """
    with needs("train"):
        from ccm_runtime.commands.runs import runs as run

        run(paths or [Path("runs")], sort=sort, as_json=as_json)


def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR", help="A training run, or several to compare.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Page to write (RUN_DIR/report.html; of several, comparison.html beside the first)."
        ),
    ] = None,
) -> None:
    """Write a run as one HTML page: scores, curves, trajectories or frames, beliefs, settings.

    Of several runs: learning curves with intervals over seeds, adaptation curves, beliefs, and the settings that
    differ. Runs that differ by the seed alone are put together.
    """
    with needs("train"):
        from ccm_runtime.commands.report import report as run

        run(run_dirs, out)


def hash_(run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A training run.")]) -> None:
    """Print the SHA-256 of the last checkpoint's parameters; equal seeds give equal hashes."""
    with needs("train"):
        from ccm_runtime.commands.hash import print_hash as run

        run(run_dir)
