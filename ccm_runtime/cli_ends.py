"""How a command ends that goes wrong: one line on standard error and an exit code."""

import errno
import os
import traceback

import typer

from ccm_runtime.errors import CcmError, ConfigError


def warn(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """A warning as one line; where it came from helps nobody who only uses the command."""
    del category, where, more
    typer.echo(f"ccm: warning: {' '.join(str(message).split())}", err=True)


def complain(error: Exception) -> int:
    """Say in a line what went wrong, and with CCM_DEBUG=1 where; the exit code."""
    error = _of_a_file(error) or error
    if os.environ.get("CCM_DEBUG", "0") not in {"", "0"}:
        traceback.print_exception(error)
    internal = "" if isinstance(error, CcmError) else f"unexpected {type(error).__name__}: "
    hint = "" if isinstance(error, CcmError) else " (CCM_DEBUG=1 shows where)"
    message = " ".join(str(error).split())
    typer.echo(f"ccm: error: {internal}{message}{hint}", err=True)
    return error.exit_code if isinstance(error, CcmError) else 1


def _of_a_file(error: Exception) -> ConfigError | None:
    """What is wrong with the file or folder that an error of the operating system names, or with the whole disk."""
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    if not isinstance(error, OSError) or (error.filename is None and not full):
        return None
    where = "write" if error.filename is None else f"use {error.filename}"
    unusable = ConfigError(f"cannot {where}: {error.strerror}{'; free some, and try again' if full else ''}")
    unusable.__cause__ = error
    return unusable
