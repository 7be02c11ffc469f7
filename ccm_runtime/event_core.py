"""Take an event of a session and store what became of it; when the networks run is for `batching` and `punctual`."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ccm_runtime.adapt import Adapter
from ccm_runtime.belief import Folded
from ccm_runtime.errors import ServerUnreachableError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Answer, BeginEpisode, Event, Intervention, Reaction
from ccm_runtime.owed import caught_up
from ccm_runtime.proposal import Proposal
from ccm_runtime.recorder import Recorder
from ccm_runtime.session import Session, SessionTable
from ccm_runtime.traces import Stages
from ccm_runtime.vigil import WATCHFUL, Vigil, VigilLimits

Outcome = Answer | Exception
# Returns a session whose episode has just ended, and its answer, as they go on with another version.
MoveOn = Callable[[Session, Answer], tuple[Session, Answer]]
# Is told of every event once, though its client may tell it twice, or not wait for its answer any more: the session
# before it, the event, and the answer.
Took = Callable[[Session, Event, Answer], None]


class MovedOnError(Exception):
    """The session goes on with another version; that one takes its events."""


class Step(NamedTuple):
    """An event of a session, as its owner sent it; `arrived_s` is on the core's clock."""

    session_id: str
    sequence: int
    event: Event
    arrived_s: float


class EventCore:
    """Everything about an event but the networks.

    Attributes:
        adapter: The agent.
        draining: Whether the server is shutting down: no new episode begins.
        num_batches: Runs of the networks so far.
        num_steps: Events answered so far, repeats left out.
        deadline_s: An action that takes longer is the fallback; infinity: none is.
        clock: Seconds that never jump.
        move_on: Where sessions go when their episode ends; `None`: they stay.
    """

    def __init__(
        self,
        adapter: Adapter,
        table: SessionTable,
        *,
        digest: str = "",
        action_valid_ms: int = 1000,
        action_deadline_ms: float | None = None,
        limits: VigilLimits | None = None,
        group_commit: GroupCommit | None = None,
        recorder: Recorder | None = None,
        stages: Stages | None = None,
        took: Took = lambda _session, _event, _answer: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.adapter = adapter
        self.draining = False
        self.num_batches = 0
        self.num_steps = 0
        self.deadline_s = float("inf") if action_deadline_ms is None else action_deadline_ms / 1000
        self.clock = clock
        self.move_on: MoveOn | None = None
        self._digest = digest
        self._table = table
        self._action_valid_ms = action_valid_ms
        self._limits = limits or VigilLimits()
        self._group_commit = group_commit
        self._recorder = recorder
        self._stages = stages
        self._took = took

    @property
    def num_sessions(self) -> int:
        """Sessions that are held."""
        return len(self._table)

    def find(self, session_id: str) -> Session | None:
        """Return a session as it is now; `None` if it is gone."""
        return self._table.find(session_id)

    def admit(self, step: Step) -> tuple[Session, Event] | Outcome:
        """Return the session and its validated event, or the outcome that is known already."""
        try:
            session = self._table.keep(self._table.held(step.session_id))  # it is not idle while its event is taken
            if self._digest and session.bundle_digest != self._digest:
                return MovedOnError()
            repeated = session.recall(step.sequence)
            if repeated is not None:
                return repeated
            self._check_draining(step.event)
            if self._group_commit is not None:
                self._group_commit.check()
            return session, self.adapter.check(session.memory, step.event)
        except Exception as error:
            return error

    def conclude(self, step: Step, session: Session, proposal: Proposal, infer_ms: float) -> Outcome:
        """Store a session after the networks ran for its event; the answer, or why there can be none.

        Nothing is raised: others of the same run wait for their answers.
        """
        spent_s = self.clock() - step.arrived_s
        vigil = before(session, step.event)
        unusable = Intervention.LATE if spent_s > self.deadline_s else None
        if vigil.safe is not None:
            unusable = Intervention.SAFE
        if self._stages is not None:
            self._stages.note(step.session_id, spent_s)
        try:
            after = self.adapter.conclude(proposal, unusable=unusable)
            return self._store(step, session.vigilant(vigil), *after, infer_ms)
        except Exception as error:
            return error

    def fall_back(self, step: Step, session: Session, event: Event) -> Outcome:
        """Store a session after an event that the networks have not seen; the answer, or why there can be none."""
        vigil = before(session, event)
        because = Intervention.LATE if vigil.safe is None else Intervention.SAFE
        try:
            after = self.adapter.fall_back(session.memory, event, because)
            return self._store(step, session.vigilant(vigil), *after, 0.0, fell_back=True)
        except Exception as error:
            return error

    def catch_up(self, before: Session, known: Memory, num_owed: int) -> None:
        """Store the belief of `known`, which holds the first `num_owed` transitions that the session owes.

        Where that cannot be, they stay owed: nobody waits for them, and the next event brings them with it.
        """
        session = self.find(before.session_id)
        if session is None or session.epoch != before.epoch or session.last_answer is None or not num_owed:
            return
        folded = Folded(known.belief, known.latent_mean, known.latent_std)
        memory = caught_up(self.adapter.policy, session.memory, folded, num_owed)
        with suppress(Exception):
            self._table.replace(session.answered(memory, session.last_answer, session.vigil))

    def _check_draining(self, event: Event) -> None:
        if self.draining and isinstance(event, BeginEpisode):
            raise ServerUnreachableError("the server is shutting down and begins no more episodes; go elsewhere")

    def _store(
        self,
        step: Step,
        session: Session,
        memory: Memory,
        reaction: Reaction,
        infer_ms: float,
        *,
        fell_back: bool = False,
    ) -> Answer:
        vigil = session.vigil
        if reaction.action is not None:
            vigil = vigil.after(reaction.interventions, self._limits)
        answer = Answer(
            sequence=step.sequence,
            reaction=reaction,
            valid_for_ms=self._action_valid_ms,
            durable_sequence=self._durable_sequence(step.session_id),
            total_ms=(self.clock() - step.arrived_s) * 1000,
            infer_ms=infer_ms,
            draining=self.draining,
            safe=vigil.safe,
        )
        after, told = session.answered(memory, answer, vigil), answer
        if self.move_on is not None and reaction.episode_over and not memory.owed:
            after, told = self.move_on(after, answer)
        self._table.keep(after)
        self.num_steps += 1
        if self._recorder is not None:
            self._recorder.took(step.event, session, answer, fell_back=fell_back)
        self._took(session, step.event, told)
        return told

    def _durable_sequence(self, session_id: str) -> int:
        return 0 if self._group_commit is None else self._group_commit.durable_sequence(session_id)


def before(session: Session, event: Event) -> Vigil:
    """Return the vigil that an event finds: one that leaves SAFE begins anew."""
    return WATCHFUL if isinstance(event, BeginEpisode) and event.leave_safe else session.vigil
