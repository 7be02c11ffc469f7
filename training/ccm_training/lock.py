"""One process at a time trains a run."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ccm_runtime.errors import RunError

_LOCK = ".lock"
# Whoever looks whether a run is being trained holds it for a moment.
_ATTEMPTS, _PAUSE_S = 5, 0.05


@contextmanager
def trained_by_us_alone(run_dir: Path) -> Iterator[None]:
    """Hold the run while inside; the system lets go of it when the process ends, however it ends.

    Raises:
        RunError: Another process trains it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / _LOCK).open("a") as file:
        for left in reversed(range(_ATTEMPTS)):
            if _taken(file, fcntl.LOCK_EX):
                break
            if not left:
                raise RunError(f"{run_dir}: another process trains this run; wait for it, or choose another")
            time.sleep(_PAUSE_S)
        yield


def is_being_trained(run_dir: Path) -> bool:
    """Whether a process trains the run now."""
    try:
        with (run_dir / _LOCK).open() as file:
            return not _taken(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _taken(file: IO[str], kind: int) -> bool:
    """Try to lock a file; others' locks do not make it wait."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
