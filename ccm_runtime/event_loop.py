"""The event loop of a serving process: uvloop where it is installed, else asyncio's own."""

import asyncio
import resource
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")
_MOST = 4096


def run(main: Coroutine[None, None, T]) -> T:
    """Run a coroutine in a new event loop until it returns."""
    _allow_descriptors()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop, which gRPC wakes no more often than it must."""
    try:
        base: type = import_module("uvloop").Loop
    except ImportError:
        base = asyncio.SelectorEventLoop
    loop: asyncio.AbstractEventLoop = type("Loop", (_AtOnce, base), {})()
    return loop


class _AtOnce:
    """Lets gRPC wake a loop once for all of its events that wait, and not once for each.

    For every event, gRPC's own thread writes a byte to a socket. What it has the loop call then handles every event
    that waits, but reads one byte alone: each of the others costs a turn of the loop, which finds nothing to do. An
    event is there before its byte, so that none is missed.
    """

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: object) -> None:
        """Call back whenever there is something to read, of which gRPC is left one byte."""

        def woken() -> None:
            waiting = len(fd.recv(_MOST, socket.MSG_PEEK))
            if waiting > 1:
                fd.recv(waiting - 1)
            callback(*args)

        name = getattr(getattr(callback, "func", None), "__name__", "")
        of_grpc = name == "_handle_events" and isinstance(fd, socket.socket)  # another gRPC is left as it is
        super().add_reader(fd, *((woken,) if of_grpc else (callback, *args)))  # type: ignore[misc]  # the loop's


def _allow_descriptors() -> None:
    """Let this process have all the descriptors that its user may give it; the usual 1,024 are 1,000 connections."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # a system may have a bound of its own, and not say so
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
