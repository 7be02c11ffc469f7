"""What a run says while it works: JSON lines, TensorBoard and a progress display."""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from ccm_runtime.crash_points import reach
from ccm_training.durable import write_whole
from ccm_training.experiment import Counters

METRICS = "metrics.jsonl"


class RunLog:
    """Writes what there is to say of each iteration.

    Args:
        run_dir: Where `metrics.jsonl` and the TensorBoard files go.
        start: How far the run had come; later lines of an earlier attempt are dropped.
        total: Iterations of the whole run.
        progress: Whether to draw the progress display (on standard error).
    """

    def __init__(self, run_dir: Path, start: Counters, *, total: int, progress: bool) -> None:
        self._path = run_dir / METRICS
        _keep_until(self._path, start.iteration)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(run_dir / "tensorboard", purge_step=start.env_steps + 1)
        self._console = Console(stderr=True)
        self._display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not progress,
        )
        self._bar = self._display.add_task("warm up", total=total, completed=start.iteration, note="")
        self._score = "-"
        self._mark = (time.perf_counter(), start.env_steps, start.updates)

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()
        self._board.close()
        self._file.close()

    def say(self, what: str, **fields: float) -> None:
        """Name the stage that the run is in."""
        note = "  ".join(f"{name} {value:.3g}" for name, value in fields.items())
        self._display.update(self._bar, description=what, note=note)

    def report(self, counters: Counters, means: dict[str, float], scores: dict[str, Any] | None) -> None:
        """Write one line: counters, means of the metrics and, if there are any, scores."""
        now = time.perf_counter()
        seconds = max(now - self._mark[0], 1e-9)
        rates = {
            "rate/env_steps_per_s": (counters.env_steps - self._mark[1]) / seconds,
            "rate/updates_per_s": (counters.updates - self._mark[2]) / seconds,
        }
        self._mark = (now, counters.env_steps, counters.updates)
        line: dict[str, Any] = {
            "iteration": counters.iteration,
            "env_steps": counters.env_steps,
            "updates": counters.updates,
            "time_s": round(counters.time_s, 3),
            **{name: round(value, 6) for name, value in (means | rates).items()},
        }
        if scores is not None:
            line |= scores
            self._score = f"{scores['score']:.3f}"
            self._board.add_scalar("score", scores["score"], counters.env_steps)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in (means | rates).items():
            self._board.add_scalar(name, value, counters.env_steps)
        self._display.update(
            self._bar,
            description="train",
            completed=counters.iteration,
            note=(
                f"score {self._score}  accuracy {means.get('encoder/accuracy', 0.0):.2f}  "
                f"{rates['rate/env_steps_per_s']:,.0f} env steps/s  {rates['rate/updates_per_s']:.0f} updates/s"
            ),
        )

    def sync(self) -> None:
        """Wait until all lines are on disk: a checkpoint that follows counts on them."""
        self._file.flush()
        os.fsync(self._file.fileno())


def _keep_until(path: Path, iteration: int) -> None:
    """Drop lines beyond `iteration`, which a run that goes on will write again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["iteration"] <= iteration and iteration > 0:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # a line that was cut off when the run was killed
    reach("metrics.read")
    write_whole(path, "".join(f"{line}\n" for line in kept))
    reach("metrics.kept")
