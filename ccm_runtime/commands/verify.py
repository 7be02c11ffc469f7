"""`ccm verify`."""

from pathlib import Path

import typer

from ccm_export.verify import verify_bundle


def verify(bundle: Path) -> None:
    """Verify the bundle and print what was checked."""
    report = verify_bundle(bundle)
    typer.echo(f"{bundle}: ok\n{report}")
