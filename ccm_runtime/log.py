"""A server's log: on standard error, one line an event, never a payload or a token."""

import logging
import select
import sys
import threading
from contextlib import suppress
from typing import Any, TextIO

import structlog

_PIECE = 1_000  # characters: a pipe that takes anything takes 4,096 bytes


class _Lossy:
    """Writes lines on standard error, and drops what it does not take at once.

    So a server outlives a full disk, and the reader of its log that has gone or that sleeps: no session waits for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        """Write a line."""
        with self._lock, suppress(OSError):
            for begin in range(0, len(line) + 1, _PIECE):
                if not _takes(sys.stderr):
                    return
                sys.stderr.write(f"{line}\n"[begin : begin + _PIECE])
                sys.stderr.flush()

    debug = info = warning = error = critical = msg


def _takes(file: TextIO) -> bool:
    """Return whether a file takes a piece without waiting; what is no file of the system always does."""
    try:
        number = file.fileno()
    except OSError:
        return True
    asked = select.poll()
    asked.register(number, select.POLLOUT)
    return bool(asked.poll(0))


def logger(level: str) -> Any:
    """Return a logger of events from `level` (`debug`, `info`, `warning`, `error`) on; nothing global is configured."""
    return structlog.wrap_logger(
        _Lossy(),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
    )
