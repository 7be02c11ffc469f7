"""A server's log: on standard error, one line an event, never a payload or a token."""

import logging
import sys
from contextlib import suppress
from typing import Any

import structlog


class _Lossy:
    """Standard error, but for what cannot be written there: a server outlives a full disk and the reader of its log."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def logger(level: str) -> Any:
    """Return a logger of events from `level` (`debug`, `info`, `warning`, `error`) on; nothing global is configured."""
    return structlog.wrap_logger(
        structlog.PrintLogger(_Lossy()),  # type: ignore[arg-type]  # it writes and flushes, no more
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
    )
