"""`ccm report`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer

from ccm_runtime.errors import ConfigError
from ccm_training.comparison_page import write_comparison
from ccm_training.report import write_report

_BEGINNING = b"<!doctype html>"  # of every page


def report(run_dirs: Sequence[Path], out: Path | None) -> None:
    """Write the page of a run, in its own folder unless told otherwise; of several, beside the first.

    Raises:
        ConfigError: A run is named twice, which would make intervals over seeds narrower than they are; or `out` holds
            something else than a report.
    """
    times = Counter(run_dir.resolve() for run_dir in run_dirs)
    if twice := [run_dir for run_dir in run_dirs if times[run_dir.resolve()] > 1]:
        raise ConfigError(f"{twice[-1]} is there twice; give each run once")
    page = out or (run_dirs[0] / "report.html" if len(run_dirs) == 1 else run_dirs[0].parent / "comparison.html")
    _check_replaceable(page)
    if len(run_dirs) == 1:
        write_report(run_dirs[0], page)
    else:
        write_comparison(run_dirs, page)
    typer.echo(f"report: {page}")


def _check_replaceable(page: Path) -> None:
    """Refuse a name that holds anything but a report (ConfigError)."""
    if page.is_dir():
        raise ConfigError(f"--out {page}: that is a folder; name a file in it")
    if page.exists():
        with page.open("rb") as file:
            if file.read(len(_BEGINNING)) != _BEGINNING:
                raise ConfigError(f"--out {page}: exists and is no report; choose another name, or remove it")
