"""`ccm export`, `ccm verify` and `ccm sign`: what may be set of a bundle."""

# Imports inside commands: see `ccm_runtime.cli`. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002

from pathlib import Path
from typing import Annotated

import typer

from ccm_runtime.cli_options import AsJson, Fallback, PublicKey
from ccm_runtime.commands.extras import needs


def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A training run.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Folder of the bundle.")],
    max_rate: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="How much each entry of an action may change in one step, in its unit (no limit)."
        ),
    ] = None,
    fallback: Annotated[
        Fallback,
        typer.Option(
            metavar="hold|zero|last-safe",
            help="Given for an action that is late or not finite: the one before, zeros, or the last that needed no "
            "mending.",
        ),
    ] = Fallback.ZERO,
    as_json: AsJson = False,
) -> None:
    """Write a run's agent as a bundle; refuses unless onnxruntime agrees with torch.

    Its limits are sealed in: `ccm serve` can lower the rates and name another fallback, not raise them.
    """
    with needs("export"):
        from ccm_runtime.commands.export import export as run

        run(run_dir, out, max_rate=max_rate, fallback=fallback, as_json=as_json)


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    public_key: PublicKey = None,
    as_json: AsJson = False,
) -> None:
    """Check a bundle: schema, digests, graphs against manifest, actions within bounds."""
    with needs("serve"):
        from ccm_runtime.commands.verify import verify as run

        run(bundle, public_key, as_json=as_json)


def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key, Ed25519, PEM.")],
) -> None:
    """Check a bundle and sign it, for `ccm serve --public-key`; the signature is manifest.sig in its folder.

    A pair of keys: openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out public.pem
    """
    from ccm_runtime.commands.sign import sign_bundle as run

    run(bundle, key)
