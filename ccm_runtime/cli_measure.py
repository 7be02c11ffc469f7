"""`ccm bench`, `ccm soak` and `ccm benchmark`: what may be set of measurements."""

# Imports inside commands: see `ccm_runtime.cli`. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002, PLR0917

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ccm_runtime.cli_options import HELP, AsJson, EmbeddedBundle
from ccm_runtime.commands.extras import needs


class PaperFigure(StrEnum):
    """Which figure: the paper's, and where on-policy methods end."""

    ENCODERS = "figure3"
    ADAPTATION = "figure4"
    ASYMPTOTES = "asymptotes"
    REGULARIZER = "figure5"
    BELIEFS = "figure6"


class Budget(StrEnum):
    """How much the runs of a figure may spend."""

    CPU = "cpu"
    GPU = "gpu"
    PAPER = "paper"


bench = typer.Typer(no_args_is_help=True, context_settings=HELP)


@bench.command(name="serve", short_help="Measure serving against its floor.")
def bench_serve(
    bundle: EmbeddedBundle = None,
    clients: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of clients at once.")] = "1,16,64,256",
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="How often everything is measured.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, metavar="S", help="Length of each measurement.")] = 1.0,
    stay_awake: Annotated[
        bool, typer.Option("--stay-awake", help="Keep processors from deep sleep meanwhile, as `ccm serve` may.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A few clients and moments: to see that it works.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a step against an empty call of the same gRPC library and against the bare networks, in one run.

    A server, an empty server and the clients are a process each. Every round measures everything, every second one in
    the opposite order; ratios are of the same round, figures are medians over rounds.
    """
    with needs("serve"):
        from ccm_runtime.awake import awake
        from ccm_runtime.commands.bench import QUICK, bench_serve, plan_of

        plan = QUICK if quick else plan_of(clients, rounds, seconds)
        with awake() if stay_awake else nullcontext():
            bench_serve(bundle, plan, as_json=as_json)


def soak(
    bundle: EmbeddedBundle = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps of all sessions together.")] = 500_000,
    sessions: Annotated[int, typer.Option(min=1, metavar="N", help="Sessions at a time.")] = 64,
    store: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Let the server keep its sessions in this SQLite file (none).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Step sessions of a server of its own without a pause, trial after trial, and watch it from outside.

    Ends with 1 if a step fails, memory grows by 1 MB or more in 100,000 steps, descriptors, threads, tasks, sessions
    or the store grow, or the 99th percentile of a step's time or its processor time rise by more than 10 % (at the
    machine's pace, which the robots' own processor time tells); with 11 if the store fails.
    """
    with needs("serve"):
        from ccm_runtime.commands.soak import SoakPlan
        from ccm_runtime.commands.soak import soak as run

        run(bundle, SoakPlan(steps, sessions, store), as_json=as_json)


def benchmark(
    figure: Annotated[
        PaperFigure,
        typer.Argument(
            metavar="FIGURE",
            help="Encoder strategies; overall adaptation; the same at three times the steps; the regularizer's "
            "effect; t-SNE of beliefs.",
        ),
    ],
    budget: Annotated[
        Budget,
        typer.Option(
            metavar="cpu|gpu|paper", help="Two cores overnight; half an hour of an H200; the paper's environment steps."
        ),
    ] = Budget.CPU,
    families: Annotated[str | None, typer.Option(metavar="A,B", help="Only these of the figure's.")] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these of the figure's, e.g. ccm,pearl or ccm-no-gain.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A..B|A,B,...", help="Instead of the budget's.")] = None,
    runs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run folders (default: runs/BUDGET).")
    ] = None,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept, to be committed.")] = Path(
        "benchmarks/results"
    ),
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the page of all figures, e.g. docs/results.md.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Runs at a time (default: one a core; 8 on an H200).")
    ] = None,
    no_train: Annotated[
        bool, typer.Option("--no-train", help="Take in the runs that are finished, and draw; train nothing.")
    ] = False,
    draw_only: Annotated[
        bool, typer.Option("--draw-only", help="Draw what is kept in --results; look at no run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Reproduce a figure of the paper: train the runs that it needs, keep their results, write tables and pictures.

    Each run is an ordinary one, as of `ccm train`. What is finished or has a result is not trained again, and what was
    stopped goes on, so that the same command can be given day after day, on several machines, until nothing is
    missing; a run is trained by one process at a time.
    """
    with needs("train"):
        from ccm_runtime.commands.benchmark import benchmark as run
        from ccm_runtime.commands.benchmark import words_of
        from ccm_runtime.commands.seeds import parse_seeds
        from ccm_training.benchmark.campaign import Folders

        run(
            figure.value,
            budget=budget.value,
            families=words_of(families),
            methods=words_of(methods),
            seeds=None if seeds is None else list(parse_seeds(seeds)),
            folders=Folders(runs or Path("runs") / budget.value, results, page),
            jobs=jobs,
            train=not (no_train or draw_only),
            take=not draw_only,
            as_json=as_json,
        )
