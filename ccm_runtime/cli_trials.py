"""`ccm evaluate`, `ccm adapt`, `ccm record` and `ccm replay`: what may be set of trials that an agent runs."""

# Imports inside commands: see `ccm_runtime.cli`. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002, PLR0917

from pathlib import Path
from typing import Annotated, Any

import typer

from ccm_runtime.cli_options import AsJson, ClientCert, ClientKey, FamilyName, Seed, Tasks, TaskSplit, TlsCa, Trials
from ccm_runtime.commands.extras import needs


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN_DIR|BUNDLE", help="A training run or an exported bundle.")],
    tasks: TaskSplit = Tasks.TEST,
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trials, each on a task of its own (as many as the run's).")
    ] = None,
    family: FamilyName = None,
    ceiling: Annotated[
        Path | None, typer.Option(metavar="RUN_DIR", help="An oracle's run, whose return is the ceiling.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score an agent in this process: returns episode by episode, against the ceiling and the floor."""
    with needs("train"):
        from ccm_runtime.commands.evaluate import evaluate as run

        run(path, tasks=tasks, trials=trials, family=family, ceiling=ceiling, as_json=as_json)


def adapt(
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A running server (default: one of our own).")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the server's agents (default: its default one).")
    ] = None,
    family: FamilyName = None,
    tasks: Annotated[
        Tasks,
        typer.Option(
            metavar="train|test|ood",
            help="Drawn by --seed: train and test as training drew its own, but not those; ood of another kind.",
        ),
    ] = Tasks.TEST,
    trials: Trials = 20,
    seed: Seed = 0,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the token that the server asks for.")
    ] = None,
    tls_ca: TlsCa = None,
    tls_cert: ClientCert = None,
    tls_key: ClientKey = None,
    as_json: AsJson = False,
) -> None:
    """Run trials on simulated tasks against a server and show how the return grows, episode by episode."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.adapt import adapt as run

        chosen: dict[str, Any] = {"family": family, "tasks": tasks, "trials": trials, "seed": seed}
        access = Access(token_file, tls_ca, tls_cert, tls_key)
        run(server, agent=agent, access=access, **chosen, as_json=as_json)


def record(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to: a name that ends in .mp4 or .gif.")],
    path: Annotated[
        Path | None,
        typer.Argument(metavar="RUN_DIR|BUNDLE", help="A training run or a bundle (default: the embedded one)."),
    ] = None,
    family: FamilyName = None,
    tasks: TaskSplit = Tasks.TEST,
    task: Annotated[
        str | None, typer.Option(metavar="A,B", help="This task, with commas between its entries (default: by seed).")
    ] = None,
    seed: Seed = 0,
    fps: Annotated[int, typer.Option(min=1, max=50, metavar="N", help="Environment steps a second.")] = 20,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Write a video of one trial, the exploration episodes and then execution, with return and certainty drawn in."""
    with needs("video"):
        from ccm_runtime.commands.record import record as run

        run(path, out, family=family, tasks=tasks, task=task, seed=seed, fps=fps, overwrite=force)


def replay(
    recording: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="A file that `ccm serve --record` wrote: SESSION-FIRST.ccmrec.")
    ],
    bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Folder of the bundle (default: the embedded one).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take the events of a recorded session again, without a server, and compare the actions with the recorded ones.

    With the bundle that answered they must be equal, bit for bit or up to rounding: else this ends with code 7 and the
    number of the first event that differs. With another bundle it tells how that one would have acted.
    """
    with needs("serve"):
        from ccm_runtime.commands.replay import replay as run

        run(recording, bundle, as_json=as_json)
