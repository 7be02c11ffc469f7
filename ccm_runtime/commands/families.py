"""`ccm families`."""

import json

import typer
from rich.console import Console
from rich.table import Table

from ccm_training.envs.registry import list_families


def families(*, as_json: bool) -> None:
    """Print every family with what varies in it, its sizes, horizon and exploration episodes."""
    rows = [
        {
            "family": family.name,
            "task": family.task.model_dump(mode="json", exclude={"name"}),
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
    table = Table("family", "what varies", "observation", "action", "T", "K", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for row, family in zip(rows, list_families(), strict=True):
        table.add_row(*(str(value) for value in (row | {"task": ", ".join(family.task.entries)}).values()))
    Console().print(table)
    typer.echo("\nT steps an episode, K exploring. One of your own: ccm new-family NAME", err=True)
