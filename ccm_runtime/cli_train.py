"""`ccm quickstart`, `ccm train` and `ccm sweep`: what may be set of training."""

# Imports inside commands: see `ccm_runtime.cli`. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002, PLR0917

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ccm_runtime.cli_options import AsJson, Device, Seed, WandbProject
from ccm_runtime.commands.extras import needs


class Method(StrEnum):
    """What is trained."""

    CCM = "ccm"
    PEARL = "pearl"
    PEARL_CL = "pearl-cl"
    PEARL_DP = "pearl-dp"
    PEARL_CL_DP = "pearl-cl-dp"
    RL2 = "rl2"
    VARIBAD = "varibad"
    MAML = "maml"
    PROMP = "promp"
    ORACLE = "oracle"
    RANDOM = "random"


def quickstart(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the run, the bundle and the report.")] = Path(
        "ccm-quickstart"
    ),
    config: Annotated[str, typer.Option(metavar="NAME|FILE", help="What to train.")] = "quickstart",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Do the whole loop on this CPU in minutes: train, export, verify, serve, adapt, report."""
    with needs("all"):
        from ccm_runtime.commands.quickstart import quickstart as run

        run(out, config=config, seed=seed, as_json=as_json)


def train(
    config: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="A preset's name or a YAML file, e.g. point_robot_debug.")
    ],
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="E.g. policy.discount=0.9; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Instead of the config's.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0..4|0,2,5", help="Several in one process, as runs DIR/seed-N.")
    ] = None,
    device: Annotated[
        Device, typer.Option(metavar="auto|cpu|cuda", help="Where to train; auto takes CUDA if it truly works.")
    ] = Device.AUTO,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run (default: runs/CONFIG-METHOD-SEED).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    method: Annotated[
        Method | None,
        typer.Option(
            metavar="ccm|pearl|pearl-cl|pearl-dp|pearl-cl-dp|rl2|varibad|maml|promp|oracle|random",
            help="Instead of the config's.",
        ),
    ] = None,
    wandb: WandbProject = None,
) -> None:
    """Meta-train an agent; Ctrl-C saves a checkpoint and stops, --resume goes on."""
    with needs("train"):
        from ccm_runtime.commands.train import train as run

        options: dict[str, Any] = {"seed": seed, "seeds": seeds, "device": device, "run_dir": run_dir, "wandb": wandb}
        run(config, override or [], method=method, resume=resume, **options)


def sweep(
    config: Annotated[list[str], typer.Option(metavar="NAME|FILE", help="A preset's name or a YAML file; repeatable.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs and their tables.")],
    seeds: Annotated[str, typer.Option(metavar="A..B|A,B,...", help="Seeds of each choice of settings.")] = "0",
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="K=V,V,...", help="E.g. policy.discount=0.9,0.95 or method=ccm,pearl; repeatable."
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(metavar="local|auto|HOST:PORT|ray://...", help="Ray cluster; local makes one here.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Runs at a time (as many as there are processors for).")
    ] = None,
    gpus: Annotated[
        float, typer.Option(min=0.0, metavar="F", help="Share of a GPU that a run takes, e.g. 0.25; 0: the CPU.")
    ] = 0.0,
    wandb: WandbProject = None,
    as_json: AsJson = False,
) -> None:
    """Train every choice of configs, settings and seeds, on Ray: on this machine, or on a cluster.

    Each is an ordinary run in a folder of DIR (on a cluster: a path that all machines share), named by what varies.
    Runs whose worker dies go on from their last checkpoint by themselves; after Ctrl-C the same command goes on. The
    scores are put together in DIR/sweep.json and DIR/sweep.md.
    """
    with needs("sweep"):
        from ccm_runtime.commands.sweep import sweep as run
        from ccm_training.ray_sweep import Cluster

        run(config, override or [], seeds, out, Cluster(address, workers, gpus), wandb=wandb, as_json=as_json)
