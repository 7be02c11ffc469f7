"""One thread that runs one job after the other beside the event loop. It never keeps the process from ending."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ccm_runtime.presence import Presence

T = TypeVar("T")
# More than this between two looks, and the process was frozen: a server looks twice as often.
_AWAY_S = 10.0


class Worker:
    """Runs jobs in the order in which they came; the thread starts with the first one.

    Whoever hands jobs over bounds how many: the queue itself does not.

    Args:
        name: Of the thread.
        clock: Seconds that do not count while the process is frozen: its jobs stand still then, too.
    """

    def __init__(self, name: str, clock: Callable[[], float] | None = None) -> None:
        self._name = name
        self._clock = clock or Presence(_AWAY_S)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._began_s: float | None = None  # the job under way

    @property
    def busy_s(self) -> float:
        """How long the job under way has taken so far; 0: there is none. From any thread."""
        began_s = self._began_s
        return 0.0 if began_s is None else self._clock() - began_s

    @property
    def started(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    async def run(self, job: Callable[[], T]) -> T:
        """Return what a job returns, or raise what it raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self.submit(job, lambda result, error: _hand_over(done, result, error))
        return await done

    def submit(
        self, job: Callable[[], T], then: Callable[[T | None, Exception | None], None], patience_s: float = 0.0
    ) -> None:
        """Run a job, then call `then` on the event loop with what came of it.

        For so long as `patience_s` the loop itself stands still and waits, which leaves the interpreter to the job and
        saves the way back. What is done by then has been told of when this returns.
        """
        loop = asyncio.get_running_loop()
        verdict = threading.Lock()  # whoever takes it first decides whether the loop has waited long enough
        finished: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

        def work() -> None:
            result, error = None, None
            try:
                result = job()
            except Exception as raised:  # handed to whoever waits
                error = raised
            if verdict.acquire(blocking=False):
                finished.put((result, error))
            else:
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(then, result, error)

        if self._thread is None:
            # A job may hang for ever, in a driver say; a daemon thread does not keep the process.
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(work)
        try:
            done = finished.get(timeout=patience_s)
        except queue.Empty:
            if verdict.acquire(blocking=False):
                return
            done = finished.get()
        then(*done)

    def stop(self) -> None:
        """End the thread after the jobs that it has; do not wait for it."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._began_s = self._clock()
            job()
            self._began_s = None


async def beside(name: str, job: Callable[[], T]) -> T:
    """Run a job on a thread of its own, of this name, which does not keep the process: it is none of the loop's few."""
    worker = Worker(name)
    try:
        return await worker.run(job)
    finally:
        worker.stop()


def _hand_over(done: "asyncio.Future[T]", result: T | None, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)  # type: ignore[arg-type]  # without an error there is a result
