"""Stopping a run when a signal asks for it: between two steps of whatever it does, and with nothing half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


class StopAskedError(BaseException):
    """A signal asked the run to stop. It never leaves `train()`, and a simulation's `except Exception` lets it pass."""


@dataclass
class Stop:
    """Whether the run is to stop.

    Attributes:
        asked_by: Who asked; `None`: nobody.
    """

    asked_by: signal.Signals | None = None

    def check(self) -> None:
        """Go no further once a signal asked to stop.

        Raises:
            StopAskedError: One did.
        """
        if self.asked_by is not None:
            raise StopAskedError


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """What SIGINT and SIGTERM set; a second one interrupts at once, and ends the process with its own code."""
    stop = Stop()

    def remember(number: int, _frame: object) -> None:
        if stop.asked_by is not None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        stop.asked_by = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def drawn_again_if_stopped(*streams: torch.Generator) -> Iterator[None]:
    """Put random streams back if the run is stopped inside, so that they will draw the same when it goes on."""
    before = [stream.get_state() for stream in streams]
    try:
        yield
    except StopAskedError:
        for stream, state in zip(streams, before, strict=True):
            stream.set_state(state)
        raise
