"""The command line: what there is to say and to set. What each command does lives in `ccm_runtime.commands`.

The composition root: every heavy package is imported inside its command, so that `ccm --help` is immediate.
"""

# Imports inside commands: see above. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002, PLR0917

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from ccm_runtime.cli_agents import agents
from ccm_runtime.cli_measure import bench, benchmark, soak
from ccm_runtime.cli_options import (
    HELP,
    AsJson,
    Device,
    Fallback,
    FamilyName,
    PublicKey,
    Seed,
    Tasks,
    TaskSplit,
    TlsCa,
    Trials,
    WandbProject,
)
from ccm_runtime.cli_serve import serve
from ccm_runtime.commands.extras import needs
from ccm_runtime.errors import CcmError, ConfigError, FamilyError

app = typer.Typer(
    name="ccm",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
    epilog=(
        "First steps: `ccm adapt` shows the agent that comes with the package adapt to tasks that it never saw; "
        "`ccm quickstart` trains one like it in minutes. Every error ends with one line and a code of "
        "docs/reference/exit-codes.md; CCM_DEBUG=1 adds the traceback."
    ),
)


_MAY_EXIT = {"ccm_runtime", "ccm_training", "ccm_export", "click", "typer"}


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


def _print_version(asked: bool) -> None:  # noqa: FBT001  (Typer's own form)
    if asked:
        version()
        raise typer.Exit


@app.callback()
def _ccm(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (same as CCM_DEBUG=1).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Agents that adapt: meta-train once, then explore an unseen task for a few episodes and execute it.

    The loop: train -> export (three ONNX graphs) -> verify -> serve (gRPC) -> adapt.
    """
    del version
    if debug:
        os.environ["CCM_DEBUG"] = "1"


@app.command(short_help="The whole loop on this CPU, in minutes.")
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


@app.command(short_help="Meta-train an agent.")
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


@app.command(short_help="Train many runs: seeds, configs, settings.")
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


@app.command(short_help="Score a run or a bundle in this process.")
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


@app.command(short_help="Write a run's agent as a bundle.")
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A training run.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Folder of the bundle.")],
    max_rate: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="How much each entry of an action may change in one step, in its unit (no limit)."
        ),
    ] = None,
    fallback: Annotated[
        Fallback,
        typer.Option(
            metavar="hold|zero|last-safe",
            help="Given for an action that is late or not finite: the one before, zeros, or the last that needed no "
            "mending.",
        ),
    ] = Fallback.ZERO,
    as_json: AsJson = False,
) -> None:
    """Write a run's agent as a bundle; refuses unless onnxruntime agrees with torch.

    Its limits are sealed in: `ccm serve` can lower the rates and name another fallback, not raise them.
    """
    with needs("export"):
        from ccm_runtime.commands.export import export as run

        run(run_dir, out, max_rate=max_rate, fallback=fallback, as_json=as_json)


@app.command(short_help="Check a bundle's digests, schema and graphs.")
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    public_key: PublicKey = None,
    as_json: AsJson = False,
) -> None:
    """Check a bundle: schema, digests, graphs against manifest, actions within bounds."""
    with needs("serve"):
        from ccm_runtime.commands.verify import verify as run

        run(bundle, public_key, as_json=as_json)


@app.command(short_help="Sign a bundle.")
def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key, Ed25519, PEM.")],
) -> None:
    """Check a bundle and sign it, for `ccm serve --public-key`; the signature is manifest.sig in its folder.

    A pair of keys: openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out public.pem
    """
    from ccm_runtime.commands.sign import sign_bundle as run

    run(bundle, key)


app.command(short_help="Serve bundles over gRPC.")(serve)


@app.command(short_help="Run trials against a server.")
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
    as_json: AsJson = False,
) -> None:
    """Run trials on simulated tasks against a server and show how the return grows, episode by episode."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.adapt import adapt as run

        chosen: dict[str, Any] = {"family": family, "tasks": tasks, "trials": trials, "seed": seed}
        run(server, agent=agent, access=Access(token_file, tls_ca), **chosen, as_json=as_json)


@app.command(short_help="Take a recorded session again and compare.")
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


@app.command(short_help="Write a video of one trial.")
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


@app.command(short_help="List runs, or compare some of them.")
def runs(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER|RUN_DIR", help="A folder of runs (default: runs), or several runs."),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="name, state, family, method, seed, or best first: score, env_steps, time_s, changed."
        ),
    ] = "name",
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder and below it: how far each has come, what it scores, and whether it is under way.

    Of several runs, show the settings that differ and what each came to, side by side.
    """
    with needs("train"):
        from ccm_runtime.commands.runs import runs as run

        run(paths or [Path("runs")], sort=sort, as_json=as_json)


@app.command(short_help="Runs as one page to look at.")
def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR", help="A training run, or several to compare.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Page to write (RUN_DIR/report.html; of several, comparison.html beside the first)."
        ),
    ] = None,
) -> None:
    """Write a run as one HTML page: scores, curves, trajectories or frames, beliefs, settings.

    Of several runs: learning curves with intervals over seeds, adaptation curves, beliefs, and the settings that
    differ. Runs that differ by the seed alone are put together.
    """
    with needs("train"):
        from ccm_runtime.commands.report import report as run

        run(run_dirs, out)


@app.command(name="hash", short_help="SHA-256 of a run's parameters.")
def hash_(run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A training run.")]) -> None:
    """Print the SHA-256 of the last checkpoint's parameters; equal seeds give equal hashes."""
    with needs("train"):
        from ccm_runtime.commands.hash import print_hash as run

        run(run_dir)


@app.command(short_help="List the simulated task families.")
def families(as_json: AsJson = False) -> None:
    """List the task families that can be trained on and adapted to."""
    from ccm_runtime.commands.families import families as run

    run(as_json=as_json)


@app.command(name="new-family", short_help="Write the beginnings of a task family.")
def new_family(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the family, e.g. my-arm.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to (default: here).", show_default=False)] = Path(),
) -> None:
    """Write a family of your own to start from: a file that works as it is, its test, and settings to train it."""
    from ccm_runtime.commands.new_family import new_family as run

    run(name, out)


@app.command(name="check-family", short_help="Check a task family against its laws.")
def check_family(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="package.module:Family, or the name of one of ours.")],
    as_json: AsJson = False,
) -> None:
    """Check that a family obeys the laws of families: seeds, endings, bounds, splits, and that its tasks matter."""
    with needs("train"):
        from ccm_runtime.commands.check_family import check_family as run

        run(family, as_json=as_json)


@app.command(short_help="What is installed and truly active.")
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which device and ONNX provider is truly active, and what to do about it."""
    from ccm_runtime.commands.doctor import doctor as run

    run(as_json=as_json)


app.command(short_help="Watch a server under load for anything that grows.")(soak)
app.command(short_help="Reproduce the paper's figures 3 to 6.")(benchmark)
app.add_typer(
    agents,
    name="agents",
    help="Change which versions of its agents a running `ccm serve --agents FOLDER` opens new sessions with.",
    short_help="Change a running server's agents.",
)
app.add_typer(bench, name="bench", help="Measure on this machine.", short_help="Measure on this machine.")


@app.command(short_help="Print the version.")
def version() -> None:
    """Print the version."""
    from ccm_runtime import __version__

    typer.echo(__version__)


def main() -> None:
    """Entry point of `ccm`: one line on standard error and an exit code for whatever goes wrong."""
    warnings.showwarning = _warn
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would tell standard error of what we tell in a line
    try:
        _check_arguments(sys.argv[1:])
        app(prog_name="ccm")
    except Exception as error:  # CCM_DEBUG=1 shows where it came from
        sys.exit(_complain(_of_a_file(error) or error))
    except SystemExit as ended:
        exited = _of_others_code(ended)
        if exited is None:
            raise
        sys.exit(_complain(exited))


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse an empty one, mostly a shell's variable that is not set: as a path it would be the current folder."""
    for before, argument in pairwise(("", *arguments)):
        if argument == "" or (argument.startswith("--") and argument.find("=") == len(argument) - 1):
            name = argument[:-1] or (before if before.startswith("-") else "an argument")
            raise ConfigError(
                f"{name}: expected a value, got nothing (an empty variable of the shell?); leave it out, or give it one"
            )


def _warn(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """A warning as one line; where it came from helps nobody who only uses the command."""
    del category, where, more
    typer.echo(f"ccm: warning: {' '.join(str(message).split())}", err=True)


def _of_others_code(ended: SystemExit) -> FamilyError | None:
    """What is wrong where it was neither we nor the command line's parser that called `sys.exit`."""
    module, place = "", ended.__traceback__
    where = traceback.extract_tb(place)[-1]
    while place is not None:
        module, place = place.tb_frame.f_globals.get("__name__", ""), place.tb_next
    if module.partition(".")[0] in _MAY_EXIT:
        return None
    exited = FamilyError(
        f"{where.filename}:{where.lineno} called sys.exit({ended.code!r}); a task family that cannot go on must raise "
        "an error instead"
    )
    exited.__cause__ = ended
    return exited


def _of_a_file(error: Exception) -> ConfigError | None:
    """What is wrong with the file or folder that an error of the operating system names, or with the whole disk."""
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    if not isinstance(error, OSError) or (error.filename is None and not full):
        return None
    where = "write" if error.filename is None else f"use {error.filename}"
    unusable = ConfigError(f"cannot {where}: {error.strerror}{'; free some, and try again' if full else ''}")
    unusable.__cause__ = error
    return unusable


def _complain(error: Exception) -> int:
    if os.environ.get("CCM_DEBUG", "0") not in {"", "0"}:
        traceback.print_exception(error)
    internal = "" if isinstance(error, CcmError) else f"unexpected {type(error).__name__}: "
    hint = "" if isinstance(error, CcmError) else " (CCM_DEBUG=1 shows where)"
    message = " ".join(str(error).split())
    typer.echo(f"ccm: error: {internal}{message}{hint}", err=True)
    return error.exit_code if isinstance(error, CcmError) else 1
