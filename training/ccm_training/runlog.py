"""What a run says while it works: JSON lines, TensorBoard and a progress display."""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from ccm_runtime.crash_points import reach
from ccm_runtime.durable import sync_folder, write_whole
from ccm_training.experiment import Counters, Run
from ccm_training.run_folder import DIVERGENCE, EVALUATION, METRICS, WANDB
from ccm_training.wandb_log import WandbLog

_SACS = ("executor", "explorer")
LAYOUT = {
    "held-out tasks": {
        "score": ["Multiline", ["^score$"]],
        "return by episode": ["Multiline", ["^returns/"]],
        "certainty by episode": ["Multiline", ["^certainty/"]],
    },
    "encoder": {
        name: ["Multiline", [f"^encoder/{name}$"]]
        for name in ("accuracy", "contrastive_loss", "divergence", "prediction_loss")
    },
    "policies": {
        name: ["Multiline", [f"^{who}/{name}$" for who in _SACS]]
        for name in ("critic_loss", "value", "entropy", "temperature")
    }
    | {"information": ["Multiline", ["^explorer/information_gain$", "^explorer/gain_of_a_trial$"]]},
    "throughput": {name: ["Multiline", [f"^rate/{name}$"]] for name in ("env_steps_per_s", "updates_per_s")},
}
"""TensorBoard's tab "custom scalars": what belongs together, and both policies in one chart."""


class CohortLog:
    """What the runs of a cohort say: each in its own folder, and all in one progress display on standard error.

    Where that is no terminal, a line is written there at each evaluation instead.

    Args:
        runs: How far each had come; later lines of an earlier attempt are dropped, and the scores of its end.
        folders: Where they live.
        total: Iterations of the whole training.
        progress: Whether to draw the display.
        wandb: Project at Weights & Biases that hears it too; `None`: none does.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        folders: Sequence[Path],
        *,
        total: int,
        progress: bool,
        wandb: str | None = None,
    ) -> None:
        self._runs = runs
        for run, folder in zip(runs, folders, strict=True):
            if run.counters.env_steps == 0:  # it begins
                _forget_all(folder)
        heard_by = [] if wandb is None else zip(runs, folders, strict=True)
        self._wandb = [WandbLog(wandb or "", folder, run.config) for run, folder in heard_by]
        self._logs = [RunLog(folder, run.counters) for run, folder in zip(runs, folders, strict=True)]
        self._many = f"{len(runs)} seeds: " if len(runs) > 1 else ""
        console = Console(stderr=True)
        self._display = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not progress or not console.is_terminal,
        )
        self._in_lines = progress and not console.is_terminal
        self._total = total
        done = runs[0].counters.iteration
        self._bar = self._display.add_task(f"{self._many}warm up", total=total, completed=done, note="")
        self._scored = ""

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()
        for log in self._logs:
            log.close()
        for mirror in self._wandb:
            mirror.close()

    def say(self, what: str, **fields: float) -> None:
        """Name the stage that the training is in."""
        note = "  ".join(f"{name} {value:.3g}" for name, value in fields.items())
        self._display.update(self._bar, description=f"{self._many}{what}", note=note)

    def report(self, scores: Sequence[dict[str, Any]] | None) -> None:
        """Write a line for each run: counters, means of metrics and, if there are any, scores; begin its tally anew."""
        lines = [
            log.report(run.counters, run.tally.means(), None if scores is None else scores[place])
            for place, (run, log) in enumerate(zip(self._runs, self._logs, strict=True))
        ]
        for run in self._runs:
            run.tally.clear()
        for mirror, line in zip(self._wandb, lines, strict=False):
            mirror.report(line)
        if scores is not None:
            self._scored = _scored(lines)
        iteration, note = lines[0]["iteration"], f"{self._scored}{_learned(lines)}{_rates(lines)}"
        self._display.update(self._bar, description=f"{self._many}train", completed=iteration, note=note)
        if self._in_lines and scores is not None:
            sys.stderr.write(f"{self._many}train {iteration}/{self._total}  {note}\n")
            sys.stderr.flush()

    def sync(self) -> None:
        """Wait until all lines are on disk: a checkpoint that follows counts on them."""
        for log in self._logs:
            log.sync()


class RunLog:
    """Writes what there is to say of each iteration of one run.

    Args:
        run_dir: Where `metrics.jsonl` and the TensorBoard files go.
        start: How far the run had come; later lines of an earlier attempt are dropped.
    """

    def __init__(self, run_dir: Path, start: Counters) -> None:
        path = run_dir / METRICS
        _forget_end(run_dir)
        _keep_until(path, start.iteration)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(run_dir / "tensorboard", purge_step=start.env_steps + 1)
        self._board.add_custom_scalars(LAYOUT)
        self._mark = (time.perf_counter(), start.env_steps, start.updates)

    def close(self) -> None:
        """Write no more."""
        self._board.close()
        self._file.close()

    def report(self, counters: Counters, means: dict[str, float], scores: dict[str, Any] | None) -> dict[str, Any]:
        """Write one line, and return it: counters, means of the metrics and, if there are any, scores."""
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
            self._board.add_scalar("score", scores["score"], counters.env_steps)
            for what in ("returns", "certainty"):
                for episode, value in enumerate(scores[what], 1):
                    self._board.add_scalar(f"{what}/episode_{episode}", value, counters.env_steps)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in (means | rates).items():
            self._board.add_scalar(name, value, counters.env_steps)
        return line

    def sync(self) -> None:
        """Wait until all lines are on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())


def _scored(lines: Sequence[Mapping[str, Any]]) -> str:
    """What held-out tasks brought: mean over runs, from the worst to the best of several, and the last certainty."""
    found = sorted(line["score"] for line in lines)
    spread = f" [{found[0]:.3f}, {found[-1]:.3f}]" if len(found) > 1 else ""
    certainty = fmean(line["certainty"][-1] for line in lines)
    return f"score {fmean(found):.3f}{spread}  certainty {certainty:.2f}  "


def _learned(lines: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy and losses, mean over runs; a method that lacks one does not show it."""
    shown = {
        "encoder/accuracy": "accuracy",
        "encoder/contrastive_loss": "InfoNCE",
        "executor/critic_loss": "critics",
        "explorer/critic_loss": "explorer's",
    }
    means = {name: [line[name] for line in lines if name in line] for name in shown}
    return "".join(f"{shown[name]} {fmean(values):.2f}  " for name, values in means.items() if values)


def _rates(lines: Sequence[Mapping[str, Any]]) -> str:
    steps = sum(line["rate/env_steps_per_s"] for line in lines)
    return f"{steps:,.0f} env steps/s  {lines[0]['rate/updates_per_s']:.0f} updates/s"


def _forget_all(run_dir: Path) -> None:
    """Drop what a run that was here before left: how it diverged, and under which id it was heard of."""
    for name in (DIVERGENCE, WANDB):
        (run_dir / name).unlink(missing_ok=True)
    sync_folder(run_dir)


def _forget_end(run_dir: Path) -> None:
    """Drop what an earlier attempt said when it ended: its scores are not those of a run that goes on."""
    (run_dir / EVALUATION).unlink(missing_ok=True)
    sync_folder(run_dir)


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
