"""One process at a time trains a run."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccm_runtime.errors import RunError

_LOCK = ".lock"


@contextmanager
def trained_by_us_alone(run_dir: Path) -> Iterator[None]:
    """Hold the run while inside; the system lets go of it when the process ends, however it ends.

    Raises:
        RunError: Another process trains it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{run_dir}: another process trains this run; wait for it, or choose another") from error
        yield


def is_being_trained(run_dir: Path) -> bool:
    """Whether a process trains the run now."""
    if not (run_dir / _LOCK).exists():
        return False
    try:
        with trained_by_us_alone(run_dir):
            return False
    except RunError:
        return True
