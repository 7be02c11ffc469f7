"""`ccm families`."""

import json

import typer
from rich.console import Console
from rich.table import Table

from ccm_training.envs.registry import list_families


def families(*, as_json: bool) -> None:
    """Print every family with its sizes, horizon and exploration episodes."""
    rows = [
        {
            "family": family.name,
            "observation_size": family.observation.size,
            "action_size": family.action.size,
            "horizon": family.horizon,
            "explore_episodes": family.explore_episodes,
        }
        for family in list_families()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("family", "observation", "action", "T (steps)", "K (exploring)")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
