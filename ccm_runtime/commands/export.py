"""`ccm export`."""

from pathlib import Path

import typer

from ccm_export.bundle_writer import export_run


def export(run_dir: Path, out: Path) -> None:
    """Write the bundle and say what to do next."""
    manifest = export_run(run_dir, out)
    worst = max(manifest.parity.max_abs_difference.values(), default=0.0)
    typer.echo(f"bundle: {out} ({manifest.agent_id}; onnxruntime and torch differ by at most {worst:.1e})")
    typer.echo(f"next: ccm verify {out}    or    ccm serve {out}", err=True)
