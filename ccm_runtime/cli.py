"""The command line: what there is to say, in its order. What may be set of each command is in `ccm_runtime.cli_*`.

The composition root: every heavy package is imported inside its command, in `ccm_runtime.commands`, so that
`ccm --help` is immediate.
"""

# Imports inside commands: see above. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002

import os
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

from ccm_runtime.cli_agents import agents
from ccm_runtime.cli_bundles import export, sign, verify
from ccm_runtime.cli_ends import complain, warn
from ccm_runtime.cli_families import check_family, families, new_family
from ccm_runtime.cli_measure import bench, benchmark, soak
from ccm_runtime.cli_options import HELP, AsJson
from ccm_runtime.cli_runs import hash_, report, runs
from ccm_runtime.cli_serve import serve
from ccm_runtime.cli_train import quickstart, sweep, train
from ccm_runtime.cli_trials import adapt, evaluate, record, replay
from ccm_runtime.errors import ConfigError

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


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which device and ONNX provider is truly active, and what to do about it."""
    from ccm_runtime.commands.doctor import doctor as run

    run(as_json=as_json)


def version() -> None:
    """Print the version."""
    from ccm_runtime import __version__

    typer.echo(__version__)


app.command(short_help="The whole loop on this CPU, in minutes.")(quickstart)
app.command(short_help="Meta-train an agent.")(train)
app.command(short_help="Train many runs: seeds, configs, settings.")(sweep)
app.command(short_help="Score a run or a bundle in this process.")(evaluate)
app.command(short_help="Write a run's agent as a bundle.")(export)
app.command(short_help="Check a bundle's digests, schema and graphs.")(verify)
app.command(short_help="Sign a bundle.")(sign)
app.command(short_help="Serve bundles over gRPC.")(serve)
app.command(short_help="Run trials against a server.")(adapt)
app.command(short_help="Take a recorded session again and compare.")(replay)
app.command(short_help="Write a video of one trial.")(record)
app.command(short_help="List runs, or compare some of them.")(runs)
app.command(short_help="Runs as one page to look at.")(report)
app.command(name="hash", short_help="SHA-256 of a run's parameters.")(hash_)
app.command(short_help="List the simulated task families.")(families)
app.command(name="new-family", short_help="Write the beginnings of a task family.")(new_family)
app.command(name="check-family", short_help="Check a task family against its laws.")(check_family)
app.command(short_help="What is installed and truly active.")(doctor)
app.command(short_help="Watch a server under load for anything that grows.")(soak)
app.command(short_help="Reproduce the paper's figures 3 to 6.")(benchmark)
app.add_typer(
    agents,
    name="agents",
    help="Change which versions of its agents a running `ccm serve --agents FOLDER` opens new sessions with.",
    short_help="Change a running server's agents.",
)
app.add_typer(bench, name="bench", help="Measure on this machine.", short_help="Measure on this machine.")
app.command(short_help="Print the version.")(version)


def main() -> None:
    """Entry point of `ccm`: one line on standard error and an exit code for whatever goes wrong."""
    warnings.showwarning = warn
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would tell standard error of what we tell in a line
    try:
        _check_arguments(sys.argv[1:])
        app(prog_name="ccm")
    except Exception as error:  # CCM_DEBUG=1 shows where it came from
        sys.exit(complain(error))


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse an empty one, mostly a shell's variable that is not set: as a path it would be the current folder."""
    for before, argument in pairwise(("", *arguments)):
        if argument == "" or (argument.startswith("--") and argument.find("=") == len(argument) - 1):
            name = argument[:-1] or (before if before.startswith("-") else "an argument")
            raise ConfigError(
                f"{name}: expected a value, got nothing (an empty variable of the shell?); leave it out, or give it one"
            )
