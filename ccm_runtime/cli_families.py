"""`ccm families`, `ccm new-family` and `ccm check-family`: what may be set of task families."""

# Imports inside commands: see `ccm_runtime.cli`. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002

from pathlib import Path
from typing import Annotated

import typer

from ccm_runtime.cli_options import AsJson
from ccm_runtime.commands.extras import needs


def families(as_json: AsJson = False) -> None:
    """List the task families that can be trained on and adapted to."""
    from ccm_runtime.commands.families import families as run

    run(as_json=as_json)


def new_family(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the family, e.g. my-arm.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to (default: here).", show_default=False)] = Path(),
) -> None:
    """Write a family of your own to start from: a file that works as it is, its test, and settings to train it."""
    from ccm_runtime.commands.new_family import new_family as run

    run(name, out)


def check_family(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="package.module:Family, or the name of one of ours.")],
    as_json: AsJson = False,
) -> None:
    """Check that a family obeys the laws of families: seeds, endings, bounds, splits, and that its tasks matter."""
    with needs("train"):
        from ccm_runtime.commands.check_family import check_family as run

        run(family, as_json=as_json)
