"""`ccm verify`."""

from pathlib import Path

import typer

from ccm_export.verify import verify_bundle
from ccm_runtime.bundle import load_bundle


def verify(bundle: Path, public_key: Path | None) -> None:
    """Verify the bundle and print what was checked."""
    load_bundle(bundle, public_key)
    report = verify_bundle(bundle)
    signed = "" if public_key is None else f"signed by the key of {public_key}\n"
    typer.echo(f"{bundle}: ok\n{signed}{report}")
