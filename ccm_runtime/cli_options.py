"""Options that several commands share, and what all groups of commands have in common."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

HELP = {"help_option_names": ["-h", "--help"]}


class Device(StrEnum):
    """Where networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Fallback(StrEnum):
    """What stands in for an action that cannot be used."""

    HOLD = "hold"
    ZERO = "zero"
    LAST_SAFE = "last-safe"


class Tasks(StrEnum):
    """Which of a family's tasks."""

    TRAIN = "train"
    TEST = "test"
    OOD = "ood"


AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON on standard output instead of a table.")]
Trials = Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="Trials, each on a task of its own.")]
FamilyName = Annotated[
    str | None,
    typer.Option(
        "--family",
        "--env",
        metavar="NAME",
        help="Simulated task family (default: the one it was trained on); needed for package.module:Family.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Everything random is a function of it.")]
PublicKey = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Refuse a bundle that this key has not signed (Ed25519, PEM).")
]
TaskSplit = Annotated[
    Tasks,
    typer.Option(
        metavar="train|test|ood", help="Tasks that it was trained on, others of their kind, or some of another kind."
    ),
]
WandbProject = Annotated[
    str | None, typer.Option(metavar="PROJECT", help="Say it to Weights & Biases too (WANDB_MODE=offline: locally).")
]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", metavar="FILE", help="Certificates to trust, PEM (default: plain text).")
]
ClientCert = Annotated[
    Path | None,
    typer.Option("--tls-cert", metavar="FILE", help="Certificate for a server with --tls-client-ca, PEM (none)."),
]
ClientKey = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key, PEM.")]
EmbeddedBundle = Annotated[
    Path | None, typer.Argument(metavar="BUNDLE", help="Folder of the bundle (default: the embedded one).")
]
