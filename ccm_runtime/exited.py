"""A user's code that calls `sys.exit`: it must not end a command as if that had done its work."""

import traceback

from ccm_runtime.errors import FamilyError

_MAY_EXIT = {"ccm_runtime", "ccm_training", "ccm_export", "click", "typer"}


def of_others_code(ended: SystemExit) -> FamilyError | None:
    """What is wrong where it was neither we nor the command line's parser that called `sys.exit`."""
    where = exited_in(ended)
    if where is None:
        return None
    exited = FamilyError(
        f"{where} called sys.exit({ended.code!r}); a task family that cannot go on must raise an error instead"
    )
    exited.__cause__ = ended
    return exited


def exited_in(ended: SystemExit) -> str | None:
    """The file and line that called `sys.exit`; `None`: one of ours, or the command line's parser."""
    module, place = "", ended.__traceback__
    where = traceback.extract_tb(place)[-1]
    while place is not None:
        module, place = place.tb_frame.f_globals.get("__name__", ""), place.tb_next
    return None if module.partition(".")[0] in _MAY_EXIT else f"{where.filename}:{where.lineno}"
