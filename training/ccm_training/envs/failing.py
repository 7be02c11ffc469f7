"""What a user's simulation raises is told as its fault, with the line of the user's code where it happened."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ccm_runtime
import ccm_training
from ccm_runtime.errors import CcmError, SimulationError
from ccm_runtime.exited import exited_in

_LIBRARIES = tuple(
    f"{Path(folder)}/" for folder in (sysconfig.get_path("stdlib"), ccm_runtime.__path__[0], ccm_training.__path__[0])
)


class SimulationFailedError(SimulationError):
    """A user's simulation raised an error of its own, which is the cause of this one."""


@contextmanager
def blamed(family: str) -> Iterator[None]:
    """A call of a simulation of a user's family, and of nothing of ours; what signals raise in it stays what it is.

    Raises:
        SimulationFailedError: It raised an error of its own, or called `sys.exit`.
    """
    try:
        yield
    except CcmError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and exited_in(error) is None:
            raise  # as a signal's handler of ours does
        text = ": ".join(filter(None, (type(error).__name__, str(error))))
        raise SimulationFailedError(f"the simulation of {family} failed at {_place(error)}: {text}") from error


def _place(error: BaseException) -> str:
    """The file and line of the deepest call in the user's own code; in a library, where that has no part in it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    frame = (own or frames)[-1]
    return f"{frame.filename}:{frame.lineno}"


def _is_library(file: str) -> bool:
    return file.startswith(("<", *_LIBRARIES)) or "site-packages" in file
