"""How a figure was made: by which command, when, on what machine, with which versions."""

import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from ccm_runtime.machine import machine


class Provenance(BaseModel):
    """How something was made.

    Attributes:
        command: A person types it to make the same.
        date: In UTC, as `2026-11-22`.
        machine: Processor and number of cores.
        versions: Of Python and of the packages that matter.
        commit: Of the source tree; `None` where there is none, as in an installed package.
    """

    command: str
    date: str
    machine: str
    versions: dict[str, str]
    commit: str | None = None


def provenance(command: Sequence[str], *packages: str) -> Provenance:
    """How what this process makes is made."""
    return Provenance(
        command=shlex.join(command),
        date=datetime.now(UTC).date().isoformat(),
        machine=machine(),
        versions={"python": platform.python_version()} | {name: version(name) for name in packages},
        commit=commit(),
    )


def commit() -> str | None:
    """Short name of the commit that this source tree is at; `None` outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    asked = subprocess.run(  # noqa: S603  (git, of the user's path)
        ["git", "-C", str(root), "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
