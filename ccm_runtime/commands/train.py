"""`ccm train`."""

from pathlib import Path

import typer

from ccm_runtime.commands.show import show_evaluation
from ccm_training.config import load_config
from ccm_training.train import train as train_run


def train(
    config: str,
    overrides: list[str],
    *,
    method: str | None,
    seed: int | None,
    device: str,
    run_dir: Path | None,
    resume: bool,
) -> None:
    """Train one run and say where it is and what to do next."""
    resolved = load_config(config, overrides, method=method, seed=seed)
    folder = run_dir or Path("runs") / f"{Path(config).stem}-{resolved.method}-{resolved.seed}"
    result = train_run(resolved, folder, device=device, resume=resume, progress=True)
    if result.stopped_by is not None:
        typer.echo(f"stopped by {result.stopped_by.name}; go on with the same command and --resume", err=True)
        raise typer.Exit(128 + result.stopped_by)
    if result.evaluation is not None:
        show_evaluation(result.evaluation.model_dump())
    typer.echo(f"\nrun:  {folder}")
    export = f"    or    ccm export {folder} --out bundle" if resolved.what.encoder else ""
    typer.echo(f"next: ccm evaluate {folder}{export}", err=True)
