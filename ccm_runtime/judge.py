"""What becomes of the events that versions take: counted, and a candidate that does not do its work is taken back."""

from collections.abc import Callable
from typing import Any

from ccm_runtime.messages import Answer, Event
from ccm_runtime.metrics import Metrics
from ccm_runtime.roster import Roster
from ccm_runtime.session import Session, SessionTable
from ccm_runtime.shadow import Shadow
from ccm_runtime.versions import Version


class Judge:
    """Counts what becomes of events, by version, and judges candidates by it.

    Attributes:
        rolled_back: Is told of an agent whose candidate did not do its work and gets no more sessions.
        shadow: What is told an agent's events and not obeyed; `None`: nothing is.

    Args:
        roster: The versions.
        table: Their sessions.
        metrics: What counts over all versions.
        max_candidate_faults: Events that a candidate fails at or misses, since it is one, until it is taken back.
        log: Is told of sessions that go SAFE and of candidates that are taken back.
    """

    def __init__(
        self, roster: Roster, table: SessionTable, metrics: Metrics, max_candidate_faults: int, log: Any
    ) -> None:
        self.rolled_back: Callable[[str], None] = lambda _: None
        self.shadow: Shadow | None = None
        self._roster = roster
        self._table = table
        self._metrics = metrics
        self._max_candidate_faults = max_candidate_faults
        self._log = log

    def took(self, digest: str, before: Session, event: Event, answer: Answer) -> None:
        """Take note of an event that the version of a bundle has taken."""
        self._metrics.stepped(answer)
        version = self._roster.find(digest)
        if version is None:
            return
        if self.shadow is not None and self.shadow.agent == version.agent.name:
            self.shadow.tell(version, before, event, answer)
        if answer.reaction.interventions or answer.reaction.episode_over:
            self._note(before, version, answer)

    def failed(self, version: Version) -> None:
        """Count an event that a version's networks failed at."""
        version.tally.num_failures += 1
        self._judge(version)

    def _note(self, before: Session, version: Version, answer: Answer) -> None:
        """Count a mended action or the end of an episode."""
        if answer.safe is not None and before.vigil.safe is None:
            self._log.warning("session is SAFE", session_id=before.session_id, why=answer.safe.value)
        if answer.reaction.interventions:
            version.tally.mended(answer)
            self._judge(version)
        session = self._table.find(before.session_id)
        if answer.reaction.episode_over and session is not None and session.last_answer is answer:
            version.tally.ended(session.memory.returns[-1])

    def _judge(self, version: Version) -> None:
        """Open no more sessions with a candidate that does not do its work."""
        rollout = self._roster.rollout(version.agent.name)
        faults = version.tally.faults.since(rollout.faults_before)
        if version is rollout.candidate and sum(faults) >= self._max_candidate_faults:
            self._roster.appoint(version.agent.name, rollout.rolled_back())
            told = faults._asdict()
            self._log.error("candidate rolled back", agent=version.agent.name, version=version.name, **told)
            self.rolled_back(version.agent.name)
