"""`ccm export`."""

from pathlib import Path

import typer

from ccm_export.bundle_writer import export_run


def export(run_dir: Path, out: Path) -> None:
    """Write the bundle and say what to do next."""
    manifest = export_run(run_dir, out)
    compared = sum(manifest.parity.num_inputs.values())
    agreed = f"onnxruntime agrees with torch to {manifest.parity.tolerance:g} on {compared:,} inputs"
    typer.echo(f"bundle: {out} ({manifest.agent_id}; {agreed})")
    typer.echo(f"next: ccm verify {out}    or    ccm serve {out}", err=True)
