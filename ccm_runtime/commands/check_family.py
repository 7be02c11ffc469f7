"""`ccm check-family`."""

import json

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ccm_runtime.errors import FamilyError
from ccm_training.envs.laws import judge
from ccm_training.envs.registry import get_family


def check_family(name: str, *, as_json: bool) -> None:
    """Print which laws the family obeys.

    Raises:
        FamilyError: It breaks one.
    """
    family = get_family(name)
    verdicts = judge(family)
    if as_json:
        typer.echo(json.dumps({"family": family.name, "laws": [verdict._asdict() for verdict in verdicts]}))
    else:
        table = Table("", "law", "what speaks against it", box=None, pad_edge=False)
        told: set[str] = set()
        for verdict in verdicts:
            found = "as above" if verdict.found and verdict.found in told else verdict.found
            table.add_row("holds" if verdict.holds else "BROKEN", verdict.law, Text(found))
            told.add(verdict.found)
        Console().print(table)
    broken = [verdict for verdict in verdicts if not verdict.holds]
    if broken:
        causes = {verdict.found for verdict in broken}
        why = causes if len(causes) == 1 < len(broken) else [verdict.law for verdict in broken]
        raise FamilyError(f"{family.name} breaks {len(broken)} of {len(verdicts)} laws: {'; '.join(why)}")
