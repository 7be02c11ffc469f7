"""What a user's family raises is told as its fault, with the line of the user's code where it happened."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import ccm_runtime
import ccm_training
from ccm_runtime.errors import CcmError, FamilyError, SimulationError

_OURS = tuple(f"{Path(folder)}/" for folder in (ccm_runtime.__path__[0], ccm_training.__path__[0]))
_OUR_PACKAGES = {"ccm_runtime", "ccm_training", "ccm_export"}
_LIBRARIES = (*_OURS, f"{Path(sysconfig.get_path('stdlib'))}/")


class SimulationFailedError(SimulationError):
    """A user's simulation raised an error of its own, which is the cause of this one."""


def blamed(family: str) -> AbstractContextManager[None]:
    """A call of a simulation of a user's family, and of nothing of ours; what signals raise in it stays what it is.

    Raises:
        SimulationFailedError: It raised an error of its own, or called `sys.exit`.
    """
    return _told(f"the simulation of {family}", SimulationFailedError)


def faulty(what: str) -> AbstractContextManager[None]:
    """Any other call of a user's family.

    Args:
        what: What may fail, and of which family.

    Raises:
        FamilyError: It raised an error of its own, or called `sys.exit`.
    """
    return _told(what, FamilyError)


@contextmanager
def _told(what: str, kind: type[CcmError]) -> Iterator[None]:
    try:
        yield
    except CcmError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and _is_ours(error):
            raise  # as a signal's handler does
        text = ": ".join(filter(None, (type(error).__name__, str(error))))
        raise kind(f"{what} failed{_place(error)}: {text}") from error


def _is_ours(ended: SystemExit) -> bool:
    *_, (frame, _line) = traceback.walk_tb(ended.__traceback__)
    return frame.f_globals.get("__name__", "").partition(".")[0] in _OUR_PACKAGES


def _place(error: BaseException) -> str:
    """The file and line of the deepest call in the user's own code; in a library, where that has no part in it."""
    if isinstance(error, SyntaxError) and error.filename and not _is_library(error.filename):
        return f" at {error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    frame = (own or frames)[-1]
    return "" if frame.filename.startswith(_OURS) else f" at {frame.filename}:{frame.lineno}"


def _is_library(file: str) -> bool:
    return file.startswith(("<", *_LIBRARIES)) or "site-packages" in file
