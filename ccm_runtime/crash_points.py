"""Named places where a test may kill the process, as a power cut would: `CCM_CRASH_AT=commit:3` dies at the third.

Unset, a point costs one comparison. A durable thing names its points before and after whatever must be atomic.
"""

import os
import signal
from typing import Final

from ccm_runtime.errors import ConfigError

VARIABLE: Final = "CCM_CRASH_AT"
# Of the session store: before a group's rows are committed; after, and before anyone is told; around a checkpoint;
# around the tidying.
STORE: Final = ("append", "commit", "snapshot", "rotate")
# Of a store that servers share: before a group is sent; after, and before anyone is told; the same of a claim.
SHARED_STORE: Final = ("append", "commit", "claim")
# Of a training run: between any two steps of saving it, and of dropping the metrics that it will write again.
TRAINING: Final = (
    "checkpoint.begun",
    "checkpoint.tensors-written",
    "checkpoint.state-written",
    "checkpoint.renamed",
    "checkpoint.on-disk",
    "checkpoint.discarded",
    "metrics.read",
    "metrics.kept",
)
# Of several seeds in one process: each is saved but they are not yet named together; they are.
COHORT: Final = ("cohort.saved", "cohort.named")
# Of the change of an agent's current version: between any two steps of it.
SWAP: Final = ("swap.loaded", "swap.begun", "swap.linked", "swap.renamed", "swap.on-disk", "swap.kept", "swap.done")
# Of an export: the bundle is written, beside its place; of two steps, the first is done; it is in its place.
EXPORT: Final = ("export.written", "export.aside", "export.put")
POINTS: Final = STORE + SHARED_STORE + TRAINING + COHORT + SWAP + EXPORT


def _chosen(setting: str) -> tuple[str, int]:
    """Return the point and how many times it is passed, e.g. of `commit:3`; of nothing, nothing."""
    name, _, nth = setting.partition(":")
    if setting and (name not in POINTS or not (nth or "1").isdecimal() or int(nth or 1) < 1):
        raise ConfigError(f"{VARIABLE}: expected NAME:NTH with a name of {', '.join(POINTS)}, got {setting!r}")
    return name, int(nth or 1)


_name, _left = _chosen(os.environ.get(VARIABLE, ""))


def reach(point: str) -> None:
    """Die here, with no farewell, if this is the chosen point and its time has come."""
    global _left  # noqa: PLW0603 (one process dies once)
    if point != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
