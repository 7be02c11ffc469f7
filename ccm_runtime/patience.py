"""Jobs that may hang, on a dead disk or in a driver: each is given up after a limit, and no second one joins it."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ccm_runtime.errors import RolloutError
from ccm_runtime.worker import beside

T = TypeVar("T")
# Jobs that hang at a time, each with a thread that nobody can end; more than these are not begun.
MAX_HANGING = 8
_SEE_TO = "see to the disk or the GPU that it waits for"


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    subject: str
    doing: str
    limit_s: float


class Patience:
    """Waits for jobs that a start or a change of versions is made of, and gives those up that take too long.

    A job that was given up goes on where it is, as nothing can end it, and what it returns goes nowhere. It keeps
    neither others nor the process from ending.

    Attributes:
        limit_s: How long a job may take.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._hanging: set[_Job] = set()

    @property
    def num_hanging(self) -> int:
        """Jobs that were given up and have not ended."""
        return len(self._hanging)

    async def run(self, subject: str, doing: str, job: Callable[[], T], late: Callable[[], object] = lambda: None) -> T:
        """Return what a job returns, or raise what it raises; it runs on a thread of its own.

        Args:
            subject: What hangs if the job does: while it does, no other job is begun on that.
            doing: What the job does with it.
            job: The job.
            late: Is called when the job ends after all, though it was given up.

        Raises:
            RolloutError: It took too long, or an earlier job on the same subject, or too many others, still hang.
        """
        self._check(subject)
        one = _Job(subject, doing, self.limit_s)
        work = asyncio.create_task(beside("ccm-change", job))
        work.add_done_callback(partial(self._ended, one, late))
        try:
            await asyncio.wait((work,), timeout=one.limit_s)
        finally:
            if not work.done():  # also when whoever asked has left
                self._hanging.add(one)
        if work.done():
            return work.result()
        raise _given_up(one)

    def wait(self, subject: str, doing: str, job: Callable[[], T]) -> T:
        """Return what a job returns as `run` does, while all else waits: for a server that starts."""
        self._check(subject)
        one, work = _Job(subject, doing, self.limit_s), Future[T]()
        threading.Thread(target=_into, args=(work, job), name="ccm-start", daemon=True).start()
        wait((work,), one.limit_s)
        if work.done():
            return work.result()
        self._hanging.add(one)
        work.add_done_callback(lambda _: self._hanging.discard(one))
        raise _given_up(one)

    def _check(self, subject: str) -> None:
        """Refuse to begin a job that would hang as another one does."""
        hanging = tuple(self._hanging)  # one that was waited for ends on its thread
        for one in hanging:
            if one.subject == subject:
                raise RolloutError(
                    f"{subject}: {one.doing} still hangs, for more than {one.limit_s:g} s; {_SEE_TO}, or start the "
                    "server again"
                )
        if len(hanging) >= MAX_HANGING:
            subjects = ", ".join(sorted(one.subject for one in hanging))
            raise RolloutError(
                f"{subject}: {MAX_HANGING} jobs hang already, the most ({subjects}); start the server again"
            )

    def _ended(self, one: _Job, late: Callable[[], object], work: asyncio.Task[T]) -> None:
        given_up = one in self._hanging
        self._hanging.discard(one)
        if work.cancelled():  # the loop ends
            return
        work.exception()  # whoever waits is told
        if given_up:
            late()


def _given_up(one: _Job) -> RolloutError:
    return RolloutError(
        f"{one.subject}: {one.doing} has taken {one.limit_s:g} s, and is given up; {_SEE_TO} and try again, or allow "
        "more time (--load-limit-s)"
    )


def _into(work: Future[T], job: Callable[[], T]) -> None:
    try:
        work.set_result(job())
    except BaseException as error:  # whoever waits is told
        work.set_exception(error)
