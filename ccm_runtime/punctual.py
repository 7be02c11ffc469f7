"""Answer every event within its deadline, whatever the networks do: they run on a thread beside the event loop.

At most one run of the networks is under way. While runs are quick the loop stands still for them, a tenth of the
deadline at most: two threads that take turns at every batch halve the throughput. An event whose deadline passes before
its run ends is answered with the fallback; its transition is then owed to the belief, and is folded when the run ends,
or with the next one. What a run says for an event that was answered so is never sent: the client has had its answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ccm_runtime.errors import SessionUnknownError
from ccm_runtime.event_core import EventCore, Outcome, Step, before
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Answer, Event, Transition
from ccm_runtime.owed import catch_up
from ccm_runtime.proposal import Proposal
from ccm_runtime.session import Session
from ccm_runtime.worker import Worker

_PATIENCE_S = 0.005


@dataclass(slots=True, eq=False)
class _Ticket:
    """An event that is not answered yet; `timer` ends its wait, `epoch` is the session's."""

    step: Step
    event: Event
    epoch: int
    answered: "asyncio.Future[Answer]"
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run of the networks is for: events, and sessions that only catch up."""

    tickets: Sequence[_Ticket]
    sessions: Sequence[Session]
    debtors: Sequence[Session]
    began_s: float


class Punctual:
    """Takes events whose answers have a deadline.

    Args:
        core: What stores them; its deadline is finite.
        max_batch: Most sessions in one run of the networks.
    """

    def __init__(self, core: EventCore, max_batch: int) -> None:
        self._core = core
        self._max_batch = max_batch
        self._worker = Worker("ccm-infer")
        self._tickets: dict[str, _Ticket] = {}  # by session: one event at a time
        self._waiting: dict[_Ticket, None] = {}  # an ordered set: who is answered leaves it, however long a run takes
        self._owing: dict[str, None] = {}  # an ordered set of sessions whose beliefs lag behind
        self._scheduled = False
        self._running = False
        # While runs are quicker than this, no event that waits is anywhere near its deadline.
        self._patience_s = min(_PATIENCE_S, core.deadline_s / 10)
        self._ran_s = 0.0

    async def step(self, step: Step) -> Answer:
        """Return the answer to an event; raises what `Stepper.step` raises."""
        while (ticket := self._tickets.get(step.session_id)) and step.sequence == ticket.step.sequence + 1:
            await asyncio.wait([ticket.answered])
        found = self._core.admit(step)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, Answer):
            return found
        ticket = self._tickets.get(step.session_id) or self._take(step, *found)
        # The event is taken, even if this caller gives up: whoever asks again gets its answer.
        return await asyncio.shield(ticket.answered)

    async def settled(self, session_id: str) -> None:
        """Wait until no event of a session is under way."""
        while ticket := self._tickets.get(session_id):
            await asyncio.wait([ticket.answered])

    @property
    def worker(self) -> Worker:
        """The thread of the networks, for whatever else runs them."""
        return self._worker

    def _take(self, step: Step, session: Session, event: Event) -> _Ticket:
        loop = asyncio.get_running_loop()
        ticket = _Ticket(step, event, session.epoch, loop.create_future())
        ticket.answered.add_done_callback(_look_at_error)
        if before(session, event).safe is not None:  # nothing to wait for
            self._fall_back(ticket)
            return ticket
        self._tickets[step.session_id] = ticket
        self._waiting[ticket] = None
        ticket.timer = loop.call_later(self._core.deadline_s, self._fall_back, ticket)
        if self._core.num_sessions <= 1:
            self._launch()
        else:
            self._schedule()
        return ticket

    def _schedule(self) -> None:
        if self._running or self._scheduled:
            return
        self._scheduled = True
        loop = asyncio.get_running_loop()
        # Two hops: what this turn of the loop still brings, and what its callbacks add.
        loop.call_soon(loop.call_soon, self._launch)

    def _launch(self) -> None:
        """Begin a run, if there is anything to run for."""
        self._scheduled = False
        if self._running:
            return
        run = self._gather()
        if not run.tickets and not run.debtors:
            return
        self._running = True
        adapter = self._core.adapter

        def infer() -> tuple[list[Proposal], list[Memory]]:
            events = [ticket.event for ticket in run.tickets]
            proposals = adapter.propose([s.memory for s in run.sessions], events) if events else []
            return proposals, [catch_up(adapter.policy, session.memory) for session in run.debtors]

        patience_s = self._patience_s if self._ran_s < self._patience_s else 0.0
        self._worker.submit(infer, lambda result, error: self._land(run, result, error), patience_s)

    def _gather(self) -> _Run:
        tickets: list[_Ticket] = []
        sessions: list[Session] = []
        while self._waiting and len(tickets) < self._max_batch:
            ticket = next(iter(self._waiting))
            del self._waiting[ticket]
            session = self._session_of(ticket)
            if session is None:
                self._finish(ticket, _closed())
                continue
            tickets.append(ticket)
            sessions.append(session)
        named = {session.session_id for session in sessions}
        debtors: list[Session] = []
        while self._owing and len(tickets) + len(debtors) < self._max_batch:
            session_id = next(iter(self._owing))
            del self._owing[session_id]
            debtor = self._core.find(session_id)
            if debtor is not None and debtor.memory.owed and session_id not in named:
                debtors.append(debtor)
        return _Run(tickets, sessions, debtors, self._core.clock())

    def _land(self, run: _Run, result: tuple[list[Proposal], list[Memory]] | None, error: Exception | None) -> None:
        """Take in what a run has come to."""
        self._running = False
        self._ran_s = self._core.clock() - run.began_s
        if result is None:
            # The sessions stay as they were; what is owed stays owed until the next event.
            for ticket in run.tickets:
                self._finish(ticket, error or RuntimeError("the networks gave no result"))
        else:
            infer_ms = self._ran_s * 1000
            self._core.num_batches += 1
            for ticket, session, proposal in zip(run.tickets, run.sessions, result[0], strict=True):
                self._settle(ticket, session, proposal, infer_ms)
            for session, memory in zip(run.debtors, result[1], strict=True):
                self._core.catch_up(session, memory, len(session.memory.owed))
        if self._waiting or self._owing:
            self._schedule()

    def _settle(self, ticket: _Ticket, session: Session, proposal: Proposal, infer_ms: float) -> None:
        """Answer with a proposal; one that came too late only brings the belief forward."""
        if ticket.answered.done():
            # Else it was refused, and the proposal holds what never happened; or the proposal has forgotten its task,
            # which the session has not: what it owes is then folded by the next run.
            if ticket.answered.exception() is None and not proposal.reaction.task_changed:
                num_owed = len(session.memory.owed) + isinstance(ticket.event, Transition)
                self._core.catch_up(session, proposal.memory, num_owed)
        elif self._session_of(ticket) is None:
            self._finish(ticket, _closed())
        else:
            self._finish(ticket, self._core.conclude(ticket.step, session, proposal, infer_ms))

    def _fall_back(self, ticket: _Ticket) -> None:
        """Answer without the networks."""
        session = self._session_of(ticket)
        if session is None:
            outcome: Outcome = _closed()
        else:
            outcome = self._core.fall_back(ticket.step, session, ticket.event)
            self._owing[session.session_id] = None
        self._finish(ticket, outcome)
        self._schedule()

    def _session_of(self, ticket: _Ticket) -> Session | None:
        """Return the session as it is now; `None` if it is gone, or is no longer the one that was told the event."""
        session = self._core.find(ticket.step.session_id)
        return None if session is None or session.epoch != ticket.epoch else session

    def _finish(self, ticket: _Ticket, outcome: Outcome) -> None:
        if ticket.timer is not None:
            ticket.timer.cancel()
        self._waiting.pop(ticket, None)
        if self._tickets.get(ticket.step.session_id) is ticket:
            del self._tickets[ticket.step.session_id]
        if ticket.answered.done():
            return
        if isinstance(outcome, Exception):
            ticket.answered.set_exception(outcome)
        else:
            ticket.answered.set_result(outcome)


def _closed() -> SessionUnknownError:
    return SessionUnknownError("the session was closed, or went to another server, before its event was answered")


def _look_at_error(answered: "asyncio.Future[Answer]") -> None:
    """Nobody may be waiting any more; an error is then no news."""
    if not answered.cancelled():
        answered.exception()
