"""A shadow: a version that is told all that an agent's sessions are told, and is never obeyed.

What it would have done is compared with what was done. It runs on a thread of its own, some moments behind: the event
loop appends to a bounded queue and goes on. What does not fit is dropped and counted; a session whose event was dropped
is followed no more, as its belief would lack a transition. Nor is one that began with a context, which another bundle
cannot read, or from when it goes on with another version, as it then forgets what the shadow knows.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ccm_runtime.adapt import Adapter
from ccm_runtime.belief import Array
from ccm_runtime.errors import ConfigError
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Answer, BeginEpisode, Event, Reaction, SessionOptions
from ccm_runtime.session import Session
from ccm_runtime.versions import ServedAgent, Version

if TYPE_CHECKING:
    from prometheus_client import Metric

MAX_WAITING = 4_096
MAX_FOLLOWED = 4_096
_EVERY_S = 0.05  # it looks at the queue so often: waking it with every event would cost the event loop
_MAX_BATCH = 16  # sessions in one run, so that the interpreter is soon the event loop's again


class Told(NamedTuple):
    """An event of a session, what its own version answered, and, if it is the first, how the session was opened."""

    session_id: str
    event: Event
    answer: Answer
    opened: SessionOptions | None


@dataclass(slots=True)
class Followed:
    """A session as the shadow has it: its trial, the last event's number, and the action that was truly given."""

    memory: Memory
    sequence: int = 0
    given: Array | None = None


@dataclass(slots=True)
class Compared:
    """Counts: events that were followed, dropped, or failed at; actions compared, their differences, novel events."""

    num_events: int = 0
    num_dropped: int = 0
    num_failures: int = 0
    num_actions: int = 0
    sum_of_differences: float = 0.0
    num_novel: int = 0


class Shadow:
    """Follows the sessions of one agent from their first event.

    Attributes:
        agent: Name of that agent.
        counts: What was found.

    Args:
        served: The version that is not obeyed.
        current: The agent's version that is; specs must be the same.
        log: Is told of the first failure.

    Raises:
        ConfigError: Its specs are others, so that it cannot be told the same.
    """

    def __init__(self, served: ServedAgent, current: Version, log: Any) -> None:
        manifest, agent = served.manifest, current.agent
        if (manifest.observation, manifest.action) != (agent.observation, agent.action):
            raise ConfigError(f"shadow: {manifest.agent_id} has other observations or actions than {agent.name}")
        self.agent = agent.name
        self.counts = Compared()
        self._adapter: Adapter = served.adapter()
        self._blank = self._adapter.start()
        low, high = manifest.action.low_array, manifest.action.high_array
        self._range = np.where(np.isfinite(high - low), high - low, 1.0).astype(np.float32)
        self._log = log
        self._queue: deque[Told] = deque()
        self._followed: OrderedDict[str, Followed] = OrderedDict()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="ccm-shadow", daemon=True)
        self._thread.start()

    def tell(self, version: Version, before: Session, event: Event, answer: Answer) -> None:
        """Take note of an event that a version of the agent has answered, and of the session before it; never waits."""
        if len(self._queue) >= MAX_WAITING:
            self.counts.num_dropped += 1
            return
        opened = _opened(version, before.memory) if answer.sequence == 1 else None
        self._queue.append(Told(before.session_id, event, answer, opened))

    def stop(self) -> None:
        """Let the thread end after what it is doing; do not wait for it."""
        self._stopping.set()

    def catch_up(self) -> None:
        """Follow all that was told so far; on the shadow's thread, or where there is none."""
        while self._queue:
            batch: dict[str, Told] = {}
            while self._queue and len(batch) < _MAX_BATCH and self._queue[0].session_id not in batch:
                told = self._queue.popleft()
                batch[told.session_id] = told
            continuing = [told for told in batch.values() if self._continues(told)]
            self._follow([told for told in continuing if told.session_id in self._followed])

    def _live(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self.catch_up()

    def _continues(self, told: Told) -> bool:
        """Return whether the event is the next one of a session that is followed; a gap ends the following."""
        session_id, sequence = told.session_id, told.answer.sequence
        if told.opened is not None and session_id not in self._followed:
            self._followed[session_id] = Followed(self._begun(told.opened))
            while len(self._followed) > MAX_FOLLOWED:
                self._followed.popitem(last=False)
        followed = self._followed.get(session_id)
        if followed is None or sequence <= followed.sequence:  # not from its first event on, or told again
            return False
        if sequence > followed.sequence + 1:
            del self._followed[session_id]
            return False
        return True

    def _begun(self, opened: SessionOptions) -> Memory:
        """Return a trial of the shadow's as `Adapter.start` does; no network runs."""
        blank, own = self._blank, self._blank.trial.explore_episodes
        episodes = own if opened.explore_episodes is None else opened.explore_episodes
        return blank._replace(
            trial=blank.trial._replace(explore_episodes=episodes),
            seed=opened.seed,
            stochastic=opened.stochastic,
            re_explore=(episodes or own) if opened.re_explore else 0,
        )

    def _follow(self, batch: list[Told]) -> None:
        """Step trials, all of different sessions; whatever goes wrong stays here."""
        if not batch:
            return
        followed = [self._followed[told.session_id] for told in batch]
        try:
            events = [_as_given(told.event, one.given) for told, one in zip(batch, followed, strict=True)]
            stepped = self._adapter.step([one.memory for one in followed], events)
        except Exception as error:
            if not self.counts.num_failures:
                self._log.error("shadow failed", why=str(error))
            self.counts.num_failures += len(batch)
            for told in batch:
                del self._followed[told.session_id]
            return
        for told, one, (memory, reaction) in zip(batch, followed, stepped, strict=True):
            one.memory, one.sequence, one.given = memory, told.answer.sequence, told.answer.reaction.action
            self._followed.move_to_end(told.session_id)
            self._compare(reaction, told.answer.reaction)
            if told.answer.version_changed:
                del self._followed[told.session_id]

    def _compare(self, would: Reaction, did: Reaction) -> None:
        counts = self.counts
        counts.num_events += 1
        counts.num_novel += would.novelty > 1.0
        if would.action is not None and did.action is not None:
            counts.num_actions += 1
            counts.sum_of_differences += float(np.abs((would.action - did.action) / self._range).mean())


def shadow_metrics(shadow: Shadow) -> Iterator["Metric"]:
    """Yield what is known of a shadow."""
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 (only when someone looks)

    counts = shadow.counts
    for name, text, value in (
        ("events", "Events that the shadow followed.", counts.num_events),
        ("dropped", "Events that it was too late for.", counts.num_dropped),
        ("failures", "Events that it failed at.", counts.num_failures),
        ("novel", "Events that it calls novel.", counts.num_novel),
        ("actions", "Actions of it that were compared with those that were given.", counts.num_actions),
        (
            "difference",
            "Sum of their mean differences, as shares of the range.",
            counts.sum_of_differences,
        ),
    ):
        yield CounterMetricFamily(f"ccm_shadow_{name}", text, value=value)


def _opened(version: Version, memory: Memory) -> SessionOptions | None:
    """Return how a session was opened, as its trial tells before the first event; `None`: with a context."""
    if not np.array_equal(memory.belief, version.adapter.initial_belief()):
        return None
    episodes = memory.trial.explore_episodes
    return SessionOptions(
        seed=memory.seed,
        stochastic=memory.stochastic,
        explore_episodes=None if episodes == version.agent.explore_episodes else episodes,
        re_explore=memory.re_explore > 0,
    )


def _as_given(event: Event, given: Array | None) -> Event:
    """Return an event with the action that it was made with: never the shadow's own."""
    if isinstance(event, BeginEpisode) or event.applied_action is not None:
        return event
    return replace(event, applied_action=given)
