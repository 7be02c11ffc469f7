"""Sessions whose every state is known: events are a function of session and number, and the core is the model."""

from dataclasses import replace
from functools import cache

import numpy as np

from ccm_runtime.adapt import Adapter
from ccm_runtime.manifest import Adaptation
from ccm_runtime.messages import Answer, BeginEpisode, Transition
from ccm_runtime.moment import Moment
from ccm_runtime.records import Stored, from_bytes, to_bytes
from ccm_runtime.session import Session
from ccm_runtime.store import Record
from ccm_runtime.testing import ScriptedPolicy

HORIZON = 5
DIGEST = "5c" * 32
AGENT = ScriptedPolicy(Adaptation(explore_episodes=2, episodes=4, horizon=HORIZON, latent="sample"))
ADAPTER = Adapter.of(AGENT)


def event(index, sequence):
    """Event `sequence` of session `index`: episodes of `HORIZON` transitions, one after the other."""
    draw = np.random.default_rng([index, sequence])
    observation = draw.normal(size=2).astype(np.float32)
    if sequence % (HORIZON + 1) == 1:
        return BeginEpisode(observation)
    reward, over = float(np.float32(draw.normal())), sequence % (HORIZON + 1) == 0
    return Transition(observation, reward, truncated=over)


class Model:
    """What session `index` must be after each event; its noise is its own."""

    def __init__(self, index, adapter=ADAPTER):
        self.index = index
        self._adapter = adapter
        self._states = [(adapter.start(seed=index, stochastic=True), None)]

    def after(self, sequence):
        """Memory and reaction after event `sequence`; 0: before the first."""
        while len(self._states) <= sequence:
            memory, _ = self._states[-1]
            self._states += self._adapter.step([memory], [event(self.index, len(self._states))])
        return self._states[sequence]

    def session(self, sequence, session_id=None):
        """The session after event `sequence`."""
        memory, reaction = self.after(sequence)
        name = session_id or f"session-{self.index}"
        return Session(
            name, memory, None if reaction is None else Answer(sequence, reaction, 1000), f"key-{self.index}"
        )

    def holds(self, session):
        """Whether a session is what it must be at its own number, bit for bit."""
        sequence = session.next_sequence - 1
        memory, reaction = self.after(sequence)
        same_answer = reaction is None or image(session.last_answer.reaction) == image(reaction)
        return image(session.memory) == image(memory) and same_answer and memory.num_events == sequence


def image(value):
    """A value that compares by bits: arrays by their bytes, dataclasses by all of their fields."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if hasattr(value, "__dataclass_fields__"):
        return tuple((name, image(getattr(value, name))) for name in value.__dataclass_fields__)
    if isinstance(value, tuple):
        return tuple(map(image, value))
    return value


@cache
def model(index):
    """The model of session `index`."""
    return Model(index)


def record(session, digest=DIGEST, saved_at=None):
    """A session as a store keeps it."""
    return Record(
        session.session_id, to_bytes(Stored(replace(session, bundle_digest=digest), saved_at or Moment.now()))
    )


def sessions_of(store):
    """What a store holds, by the index in the idempotency key; a damaged record raises."""
    found = [from_bytes(entry.data).session for entry in store.read()]
    return {int(session.idempotency_key.removeprefix("key-")): session for session in found}
