"""`ccm verify`."""

import json
from pathlib import Path

import typer

from ccm_export.verify import verify_bundle
from ccm_runtime.bundle import load_bundle


def verify(path: Path, public_key: Path | None, *, as_json: bool) -> None:
    """Verify the bundle and print what was checked."""
    bundle = load_bundle(path, public_key)
    report = verify_bundle(path)
    if as_json:
        told = {"bundle": str(path), "agent_id": bundle.manifest.agent_id, "bundle_digest": bundle.digest}
        key = None if public_key is None else str(public_key)
        typer.echo(json.dumps(told | {"public_key": key, "checks": report.checks}))
        return
    signed = "" if public_key is None else f"signed by the key of {public_key}\n"
    typer.echo(f"{path}: ok\n{signed}{report}")
