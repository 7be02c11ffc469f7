"""`ccm report`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer

from ccm_runtime.errors import ConfigError
from ccm_training.comparison_page import write_comparison
from ccm_training.report import write_report


def report(run_dirs: Sequence[Path], out: Path | None) -> None:
    """Write the page of a run, in its own folder unless told otherwise; of several, beside the first.

    Raises:
        ConfigError: A run is named twice, which would make intervals over seeds narrower than they are.
    """
    times = Counter(run_dir.resolve() for run_dir in run_dirs)
    if twice := [run_dir for run_dir in run_dirs if times[run_dir.resolve()] > 1]:
        raise ConfigError(f"{twice[-1]} is there twice; give each run once")
    if len(run_dirs) == 1:
        page = write_report(run_dirs[0], out or run_dirs[0] / "report.html")
    else:
        page = write_comparison(run_dirs, out or run_dirs[0].parent / "comparison.html")
    typer.echo(f"report: {page}")
