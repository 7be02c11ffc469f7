"""How a benchmark's figures were made."""

import sys
from typing import Any

from ccm_training.provenance import provenance


def how(*packages: str) -> dict[str, Any]:
    """Command, date, machine and versions of Python and these packages."""
    return provenance(["python", *sys.argv], *packages).model_dump()
