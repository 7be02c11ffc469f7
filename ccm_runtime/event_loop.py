"""The event loop of a serving process: uvloop where it is installed, else asyncio's own."""

import asyncio
import resource
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from typing import TypeVar

T = TypeVar("T")


def run(main: Coroutine[None, None, T]) -> T:
    """Run a coroutine in a new event loop until it returns."""
    _allow_descriptors()
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


def _allow_descriptors() -> None:
    """Let this process have all the descriptors that its user may give it; the usual 1,024 are 1,000 connections."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # a system may have a bound of its own, and not say so
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory
