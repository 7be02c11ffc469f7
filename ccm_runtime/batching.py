"""Step sessions, those of one tick of the event loop together.

No timer and no added wait: what arrives while the loop turns once makes one batch. A lone session is stepped at once.
Everything between reading a session and storing its next value happens without yielding, so that two events of one
session can never interleave. Only where actions have a deadline do the networks run beside the loop: see `punctual`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

from ccm_runtime.adapt import Adapter
from ccm_runtime.event_core import EventCore, MoveOn, Outcome, Step, Took
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.messages import Answer, Event
from ccm_runtime.punctual import Punctual
from ccm_runtime.recorder import Recorder
from ccm_runtime.session import Session, SessionTable
from ccm_runtime.traces import Stages
from ccm_runtime.vigil import VigilLimits

__all__ = ["Outcome", "Step", "Stepper"]

T = TypeVar("T")


class Stepper:
    """Takes events of sessions and answers them."""

    def __init__(
        self,
        adapter: Adapter,
        table: SessionTable,
        *,
        digest: str = "",
        max_batch: int = 64,
        action_valid_ms: int = 1000,
        action_deadline_ms: float | None = None,
        limits: VigilLimits | None = None,
        group_commit: GroupCommit | None = None,
        recorder: Recorder | None = None,
        stages: Stages | None = None,
        took: Took = lambda _session, _event, _answer: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._core = EventCore(
            adapter,
            table,
            digest=digest,
            action_valid_ms=action_valid_ms,
            action_deadline_ms=action_deadline_ms,
            limits=limits,
            group_commit=group_commit,
            recorder=recorder,
            stages=stages,
            took=took,
            clock=clock,
        )
        self._max_batch = max_batch
        self._punctual = None if action_deadline_ms is None else Punctual(self._core, max_batch)
        self._turn = asyncio.Lock()  # one job beside the sessions at a time: their runs wait for no more
        self._pending: list[tuple[Step, asyncio.Future[Answer]]] = []

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down: no new episode begins."""
        return self._core.draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._core.draining = draining

    @property
    def move_on(self) -> MoveOn | None:
        """Where sessions go when their episode ends; `None`: they stay."""
        return self._core.move_on

    @move_on.setter
    def move_on(self, move_on: MoveOn | None) -> None:
        self._core.move_on = move_on

    @property
    def num_batches(self) -> int:
        """Runs of the networks so far."""
        return self._core.num_batches

    @property
    def num_steps(self) -> int:
        """Events answered so far, repeats left out."""
        return self._core.num_steps

    @property
    def busy_s(self) -> float:
        """How long the networks have been at what they do now, where they have a thread; 0: they wait."""
        return 0.0 if self._punctual is None else self._punctual.worker.busy_s

    async def step(self, session_id: str, sequence: int, event: Event) -> Answer:
        """Return the answer to an event of the session's owner.

        Raises:
            SessionUnknownError: There is no such session.
            StepGapError: The number does not follow.
            SpecError: A vector does not fit.
            TrialOrderError: The trial cannot take the event now.
            ServerUnreachableError: The server is shutting down and begins no more episodes.
            ServerBusyError: The networks have not answered for longer than a session can go on without them.
            StoreUnavailableError: The store fails, and the policy is to refuse.
            MovedOnError: The session goes on with another version.
        """
        step = Step(session_id, sequence, event, self._core.clock())
        if self._punctual is not None:
            return await self._punctual.step(step)
        if self._core.num_sessions <= 1 and not self._pending:
            alone: dict[int, Outcome] = {}
            self._batch([(0, step)], alone)
            outcome = alone[0]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        loop = asyncio.get_running_loop()
        if not self._pending:
            # Two hops: what this turn of the loop still brings, and what its callbacks add.
            loop.call_soon(loop.call_soon, self._flush)
        future: asyncio.Future[Answer] = loop.create_future()
        self._pending.append((step, future))
        return await future

    async def settled(self, session_id: str) -> None:
        """Wait until no event of a session is under way."""
        if self._punctual is not None:
            await self._punctual.settled(session_id)
            return
        while waiting := [future for step, future in self._pending if step.session_id == session_id]:
            await asyncio.wait(waiting)

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """Return the outcome of each step; steps of one session are taken in order, one a batch."""
        outcomes: dict[int, Outcome] = {}
        batch: dict[str, tuple[int, Step]] = {}
        waiting: dict[str, deque[tuple[int, Step]]] = {}  # by session; whoever has waited for longest comes first
        for numbered in enumerate(steps):
            session_id = numbered[1].session_id
            if session_id in batch or len(batch) == self._max_batch:
                waiting.setdefault(session_id, deque()).append(numbered)
            else:
                batch[session_id] = numbered
        self._batch(batch.values(), outcomes)
        while waiting:
            turn = list(islice(waiting, self._max_batch))
            queues = [waiting.pop(session_id) for session_id in turn]
            self._batch([queue.popleft() for queue in queues], outcomes)
            waiting.update((session_id, queue) for session_id, queue in zip(turn, queues, strict=True) if queue)
        return [outcomes[index] for index in range(len(steps))]

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        alive = [(step, future) for step, future in pending if not future.done()]  # a caller may have given up
        for (_, future), outcome in zip(alive, self.run([step for step, _ in alive]), strict=True):
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    async def beside(self, job: Callable[[], T]) -> T:
        """Return what a job with the networks returns; where actions have a deadline it must not keep the loop."""
        if self._punctual is None:
            return job()
        await self._turn.acquire()
        running = asyncio.ensure_future(self._punctual.worker.run(job))
        running.add_done_callback(self._next)
        return await asyncio.shield(running)  # who gives up leaves no second job in the way of the sessions

    def _next(self, job: "asyncio.Future[T]") -> None:
        self._turn.release()
        if not job.cancelled():
            job.exception()  # whoever waits is told

    def stop(self) -> None:
        """Let the thread of the networks go, if there is one."""
        if self._punctual is not None:
            self._punctual.worker.stop()

    def _batch(self, steps: Iterable[tuple[int, Step]], outcomes: dict[int, Outcome]) -> None:
        """Add the outcome of each step, all of different sessions, by its number: the networks run once over them."""
        core = self._core
        ready: list[tuple[int, Step, Session, Event]] = []
        for index, step in steps:
            found = core.admit(step)
            if isinstance(found, (Answer, Exception)):
                outcomes[index] = found
            else:
                ready.append((index, step, *found))
        if not ready:
            return
        began_s = core.clock()
        try:
            proposals = core.adapter.propose([session.memory for _, _, session, _ in ready], [one[3] for one in ready])
        except Exception as error:  # a fault of the networks: every session stays as it was
            outcomes.update((index, error) for index, _, _, _ in ready)
            return
        infer_ms = (core.clock() - began_s) * 1000
        core.num_batches += 1
        for (index, step, session, _), proposal in zip(ready, proposals, strict=True):
            outcomes[index] = core.conclude(step, session, proposal, infer_ms)
