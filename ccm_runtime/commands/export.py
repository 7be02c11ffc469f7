"""`ccm export`."""

import json
import shlex
from pathlib import Path

import typer

from ccm_export.bundle_writer import export_run
from ccm_runtime.bundle import load_bundle
from ccm_runtime.limits import parse_rates
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.signing import SIGNATURE


def export(run_dir: Path, out: Path, *, max_rate: str | None, fallback: str, as_json: bool) -> None:
    """Write the bundle and say what to do next."""
    rates = None if max_rate is None else parse_rates(max_rate)
    safety = SafetyLimits.model_validate({"max_rate": rates, "fallback": fallback})
    was_signed = (out / SIGNATURE).exists()
    manifest = export_run(run_dir, out, safety=safety)
    compared = sum(manifest.parity.num_inputs.values())
    if as_json:
        told = {"bundle": str(out), "agent_id": manifest.agent_id, "bundle_digest": load_bundle(out).digest}
        parity = {"tolerance": manifest.parity.tolerance, "num_inputs": compared}
        typer.echo(json.dumps(told | {"safety": manifest.safety.model_dump(), "parity": parity}))
    else:
        agreed = f"onnxruntime agrees with torch to {manifest.parity.tolerance:g} on {compared:,} inputs"
        typer.echo(f"bundle: {out} ({manifest.agent_id}; {agreed})")
        typer.echo(f"limits: {manifest.safety}")
    quoted = shlex.quote(str(out))
    if was_signed:
        typer.echo(f"the bundle that was there was signed, and this one is not: ccm sign {quoted} --key FILE", err=True)
    typer.echo(f"next: ccm verify {quoted}    or    ccm serve {quoted}", err=True)
