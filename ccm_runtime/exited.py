"""A user's code that calls `sys.exit`: it must not end a command as if that had done its work."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ccm_runtime.errors import FamilyError, SimulationError

_MAY_EXIT = {"ccm_runtime", "ccm_training", "ccm_export", "click", "typer"}


@contextmanager
def simulating(family: str) -> Iterator[None]:
    """Calls of a family's simulation.

    Raises:
        SimulationError: It called `sys.exit`.
    """
    try:
        yield
    except SystemExit as ended:
        where = _of_others(ended)
        if where is None:
            raise
        raise SimulationError(_told(f"the simulation of {family} ({where})", ended)) from ended


def of_others_code(ended: SystemExit) -> FamilyError | None:
    """What is wrong where it was neither we nor the command line's parser that called `sys.exit`."""
    where = _of_others(ended)
    if where is None:
        return None
    exited = FamilyError(_told(where, ended))
    exited.__cause__ = ended
    return exited


def _of_others(ended: SystemExit) -> str | None:
    """The file and line that called `sys.exit`, where they are of neither us nor the command line's parser."""
    module, place = "", ended.__traceback__
    where = traceback.extract_tb(place)[-1]
    while place is not None:
        module, place = place.tb_frame.f_globals.get("__name__", ""), place.tb_next
    return None if module.partition(".")[0] in _MAY_EXIT else f"{where.filename}:{where.lineno}"


def _told(who: str, ended: SystemExit) -> str:
    return f"{who} called sys.exit({ended.code!r}); a task family that cannot go on must raise an error instead"
