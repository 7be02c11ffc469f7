"""`ccm hash`."""

from pathlib import Path

import typer

from ccm_training.checkpoint import parameter_hash


def print_hash(run_dir: Path) -> None:
    """Print the SHA-256 of the last checkpoint's parameters."""
    typer.echo(parameter_hash(run_dir))
