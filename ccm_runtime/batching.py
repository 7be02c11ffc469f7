"""Step sessions, those of one tick of the event loop together.

No timer and no added wait: what arrives while the loop turns once makes one batch. A lone session is stepped at once.
Everything between reading a session and storing its next value happens without yielding, so that two events of one
session can never interleave.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ccm_runtime.adapt import Adapter, Proposal
from ccm_runtime.errors import ServerUnreachableError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.messages import Answer, BeginEpisode, Event
from ccm_runtime.session import Session, SessionTable

Outcome = Answer | Exception


@dataclass(frozen=True, slots=True)
class Step:
    """An event of a session, as its client sent it; `arrived_s` is on the stepper's clock."""

    session_id: str
    token: str = field(repr=False)
    sequence: int
    event: Event
    arrived_s: float


class Stepper:
    """Takes events of sessions and answers them.

    Attributes:
        draining: Whether the server is shutting down: no new episode begins.
        num_batches: Batches so far.
        num_steps: Events answered so far, repeats left out.
    """

    def __init__(
        self,
        adapter: Adapter,
        table: SessionTable,
        *,
        max_batch: int = 64,
        action_valid_ms: int = 1000,
        action_deadline_ms: float | None = None,
        group_commit: GroupCommit | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.draining = False
        self.num_batches = 0
        self.num_steps = 0
        self._adapter = adapter
        self._table = table
        self._max_batch = max_batch
        self._action_valid_ms = action_valid_ms
        self._deadline_s = float("inf") if action_deadline_ms is None else action_deadline_ms / 1000
        self._group_commit = group_commit
        self._clock = clock
        self._pending: list[tuple[Step, asyncio.Future[Answer]]] = []

    async def step(self, session_id: str, token: str, sequence: int, event: Event) -> Answer:
        """Return the answer to an event.

        Raises:
            SessionUnknownError: There is no such session, or the token is not its token.
            StepGapError: The number does not follow.
            SpecError: A vector does not fit.
            TrialOrderError: The trial cannot take the event now.
            ServerUnreachableError: The server is shutting down and begins no more episodes.
            StoreUnavailableError: The store fails, and the policy is to refuse.
        """
        step = Step(session_id, token, sequence, event, self._clock())
        if len(self._table) <= 1:
            outcome = self.run([step])[0]
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

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """Return the outcome of each step; steps of one session are taken in order, one a batch."""
        outcomes: dict[int, Outcome] = {}
        waiting = list(enumerate(steps))
        while waiting:
            batch: dict[str, tuple[int, Step]] = {}
            later = []
            for index, step in waiting:
                if step.session_id in batch or len(batch) == self._max_batch:
                    later.append((index, step))
                else:
                    batch[step.session_id] = (index, step)
            for (index, _), outcome in zip(batch.values(), self._batch([s for _, s in batch.values()]), strict=True):
                outcomes[index] = outcome
            waiting = later
        return [outcomes[index] for index in range(len(steps))]

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        alive = [(step, future) for step, future in pending if not future.done()]  # a caller may have given up
        for (_, future), outcome in zip(alive, self.run([step for step, _ in alive]), strict=True):
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _batch(self, steps: list[Step]) -> list[Outcome]:
        """Return the outcome of each step, all of different sessions."""
        admitted = [self._admit(step) for step in steps]
        ready = [(step, found) for step, found in zip(steps, admitted, strict=True) if isinstance(found, tuple)]
        try:
            answers = iter(self._answer(ready))
        except Exception as error:  # a fault of the networks: every session stays as it was
            return [error if isinstance(found, tuple) else found for found in admitted]
        return [next(answers) if isinstance(found, tuple) else found for found in admitted]

    def _admit(self, step: Step) -> tuple[Session, Event] | Outcome:
        """Return the session and its validated event, or the outcome that is known already."""
        try:
            session = self._table.get(step.session_id, step.token)
            repeated = session.recall(step.sequence)
            if repeated is not None:
                self._table.keep(session)
                return repeated
            self._check_draining(step.event)
            if self._group_commit is not None:
                self._group_commit.check()
            return session, self._adapter.check(session.memory, step.event)
        except Exception as error:
            return error

    def _check_draining(self, event: Event) -> None:
        if self.draining and isinstance(event, BeginEpisode):
            raise ServerUnreachableError("the server is shutting down and begins no more episodes; go elsewhere")

    def _answer(self, ready: list[tuple[Step, tuple[Session, Event]]]) -> list[Answer]:
        """Run the networks once over all sessions, and return and store each one's answer."""
        if not ready:
            return []
        began_s = self._clock()
        proposals = self._adapter.propose([s.memory for _, (s, _) in ready], [event for _, (_, event) in ready])
        infer_ms = (self._clock() - began_s) * 1000
        answers = [
            self._conclude(step, session, proposal, infer_ms)
            for (step, (session, _)), proposal in zip(ready, proposals, strict=True)
        ]
        self.num_batches += 1
        self.num_steps += len(answers)
        return answers

    def _durable_sequence(self, session_id: str) -> int:
        return 0 if self._group_commit is None else self._group_commit.durable_sequence(session_id)

    def _conclude(self, step: Step, session: Session, proposal: Proposal, infer_ms: float) -> Answer:
        spent_s = self._clock() - step.arrived_s
        memory, reaction = self._adapter.conclude(proposal, late=spent_s > self._deadline_s)
        answer = Answer(
            sequence=step.sequence,
            reaction=reaction,
            valid_for_ms=self._action_valid_ms,
            durable_sequence=self._durable_sequence(step.session_id),
            total_ms=spent_s * 1000,
            infer_ms=infer_ms,
            draining=self.draining,
        )
        self._table.keep(session.answered(memory, answer))
        return answer
