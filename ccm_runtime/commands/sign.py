"""`ccm sign`."""

from pathlib import Path

import typer

from ccm_runtime.bundle import MANIFEST, load_bundle
from ccm_runtime.signing import SIGNATURE, sign


def sign_bundle(bundle: Path, key: Path) -> None:
    """Check a bundle, and write the signature of its manifest beside it."""
    digest = load_bundle(bundle).digest
    (bundle / SIGNATURE).write_bytes(sign((bundle / MANIFEST).read_bytes(), key))
    typer.echo(f"{bundle}: signed {digest[:12]} with the key of {key}")
