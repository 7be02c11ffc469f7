"""Train what is missing: a process a run, some at a time, each an ordinary run folder that can be resumed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ccm_training.benchmark.plan import Run
from ccm_training.benchmark.result import check_settings, is_finished
from ccm_training.checkpoint import read_config
from ccm_training.lock import is_being_trained
from ccm_training.run_folder import CONFIG, METRICS
from ccm_training.stopping import Stop

_LOOK_EVERY_S = 0.5


@dataclass
class Launched:
    """What became of the runs.

    Attributes:
        elsewhere: Another process trains them.
        failed: They ended with an error; the last line of their log.
    """

    elsewhere: list[Run] = field(default_factory=list)
    failed: dict[Run, str] = field(default_factory=dict)


@dataclass
class _Under:
    """A run under way."""

    process: subprocess.Popen[bytes]
    bar: TaskID


def arguments_for(run: Run, run_dir: Path) -> list[str]:
    """What to give `ccm` so that the run comes to its end: from its last checkpoint, if it was begun.

    Raises:
        RunError: It was begun with other settings.
    """
    if not (run_dir / CONFIG).is_file():
        return run.arguments(run_dir)
    check_settings(run, read_config(run_dir), run_dir)
    return [*run.arguments(run_dir), "--resume"]


def train_all(runs: list[Run], folder: Path, *, jobs: int, finished: Callable[[Run], None], stop: Stop) -> Launched:
    """Train runs until each is finished, failed or trained by somebody else.

    Args:
        runs: Those that have no result yet.
        folder: Of the run folders.
        jobs: How many at a time.
        finished: Told of each run that is finished, also of those that already were.
        stop: When a signal asks for it, the runs save a checkpoint and stop.
    """
    launched, waiting, under_way = Launched(), list(runs), dict[Run, _Under]()
    with _display(len(runs)) as display:
        total = display.add_task("runs", total=len(runs), note="")
        try:
            while waiting or under_way:
                while waiting and len(under_way) < jobs:
                    run = waiting.pop(0)
                    if is_finished(folder / run.name):
                        finished(run)
                        display.advance(total)
                    elif is_being_trained(folder / run.name):
                        launched.elsewhere.append(run)
                    else:
                        bar = display.add_task(run.name, total=run.config.collect.iterations, note="")
                        under_way[run] = _Under(_start(run, folder), bar)
                stop.check()
                time.sleep(_LOOK_EVERY_S if under_way else 0.0)
                for run, under in list(under_way.items()):
                    _show(display, under.bar, folder / run.name / METRICS)
                    if under.process.poll() is None:
                        continue
                    display.remove_task(under.bar)
                    del under_way[run]
                    if under.process.returncode == 0:
                        finished(run)
                        display.advance(total)
                    else:
                        launched.failed[run] = _last_line(_log(folder, run))
        finally:
            for under in under_way.values():
                under.process.terminate()  # saves a checkpoint
            for under in under_way.values():
                under.process.wait()
    return launched


def _display(total: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    return Progress(
        *columns,
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=total == 0,
    )


def _start(run: Run, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ccm_runtime", *arguments_for(run, folder / run.name)]
    with _log(folder, run).open("ab") as log:
        # A session of its own: Ctrl-C reaches us alone, and we pass it on once.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S603


def _log(folder: Path, run: Run) -> Path:
    return folder / f"{run.name}.log"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"see {log}"


def _show(display: Progress, bar: TaskID, metrics: Path) -> None:
    """Move the bar of a run to where its last line says that it is."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - 4096))
            lines = file.read().splitlines()
        line = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return  # nothing yet, or a line that is being written
    display.update(bar, completed=line["iteration"])
