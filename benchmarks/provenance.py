"""How a benchmark's figures were made, and where they go."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccm_training.provenance import provenance


def how(*packages: str) -> dict[str, Any]:
    """Command, date, machine and versions of Python and these packages."""
    return provenance(["python", *sys.argv], *packages).model_dump()


def keep(path: Path, record: Mapping[str, Any]) -> None:
    """Write what was found as a file to be committed; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
