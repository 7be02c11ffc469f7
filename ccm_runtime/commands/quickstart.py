"""`ccm quickstart`: the whole loop as a user would run it, stage by stage, with the clock beside it."""

import contextlib
import json
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.console import Console

from ccm_export.bundle_writer import export_run
from ccm_export.verify import verify_bundle
from ccm_runtime.bundle import MANIFEST
from ccm_runtime.commands.adapt import run_trials
from ccm_runtime.commands.server_process import server_process
from ccm_runtime.commands.show import show_evaluation
from ccm_runtime.errors import ConfigError
from ccm_training.config import load_config
from ccm_training.report import write_report
from ccm_training.train import train

_TRIALS = 40


class Stages:
    """Announces each stage and keeps its time.

    Attributes:
        seconds: Wall-clock time of every finished stage, in order.
    """

    def __init__(self, console: Console) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console

    @contextlib.contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Run one stage."""
        self._console.print(f"[bold]{name}[/bold]  {what}", soft_wrap=True)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)
        self._console.print(f"[dim]{name} took {self.seconds[name]:.1f} s[/dim]")


def _make_way(run_dir: Path) -> None:
    """Remove the run of an earlier quickstart, and nothing else.

    Raises:
        ConfigError: Something else is there.
    """
    if not run_dir.exists():
        return
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError(f"{run_dir} exists and is no training run; choose another folder with --out")
    shutil.rmtree(run_dir)


def quickstart(out: Path, *, config: str, seed: int, as_json: bool) -> None:
    """Train, export, verify, serve, adapt and report, under `out`, over what an earlier quickstart left there.

    `as_json` ends with one line of JSON on standard output.
    """
    stages = Stages(Console(stderr=True, highlight=False))
    started = time.perf_counter()
    run_dir, bundle, report = out / "run", out / "bundle", out / "report.html"
    resolved = load_config(config, [], method=None, seed=seed)
    if (out / MANIFEST).is_file():
        raise ConfigError(f"{out} is a bundle, which nothing may be added to; choose another folder with --out")
    _make_way(run_dir)
    with stages.stage("train", f"{config}, seed {seed}, on this CPU"):
        stopped_by = train(resolved, run_dir, device="cpu", resume=False, progress=True).stopped_by
    if stopped_by is not None:
        raise typer.Exit(128 + stopped_by)
    with stages.stage("export", f"three ONNX graphs into {bundle}"):
        export_run(run_dir, bundle)
    with stages.stage("verify", "schema, digests, graphs"):
        verify_bundle(bundle)
    with contextlib.ExitStack() as serving:
        with stages.stage("serve", "a process of its own, without torch"):
            target = serving.enter_context(server_process(bundle))
        with stages.stage("adapt", f"{_TRIALS} held-out tasks of {resolved.family} over gRPC at {target}"):
            adaptation = run_trials(
                target, family=resolved.family, tasks="test", trials=_TRIALS, seed=resolved.tasks.seed
            )
    with stages.stage("report", str(report)):
        write_report(run_dir, report, adaptation=adaptation)
    summary = {
        **adaptation.model_dump(),
        "seed": resolved.seed,
        "seconds": time.perf_counter() - started,
        "stage_seconds": stages.seconds,
        "run": str(run_dir),
        "bundle": str(bundle),
        "report": str(report),
    }
    if as_json:
        typer.echo(json.dumps(summary))
        return
    show_evaluation(summary)
    typer.echo(f"\nreport: {report}\nnext:   ccm serve {shlex.quote(str(bundle))}")
