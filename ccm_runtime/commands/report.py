"""`ccm report`."""

from pathlib import Path

import typer

from ccm_training.report import write_report


def report(run_dir: Path, out: Path | None) -> None:
    """Write the page of a run, in the run's own folder unless told otherwise."""
    typer.echo(f"report: {write_report(run_dir, out or run_dir / 'report.html')}")
