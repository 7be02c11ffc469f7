"""Many sessions on different tasks, whose callers give up, come again, and begin anew, at random; a check of each."""

import asyncio
import random
import time

import numpy as np

from ccm_runtime.adapt import Adapter
from ccm_runtime.batching import Stepper
from ccm_runtime.manifest import Adaptation
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy

NUM_SESSIONS = 64
LIMIT_S = 60.0
HORIZON = 5


class Fitful(ScriptedPolicy):
    """Takes its time now and then: with a deadline, actions are missed."""

    def __init__(self, rng):
        super().__init__(Adaptation(explore_episodes=2, episodes=4, horizon=HORIZON))
        object.__setattr__(self, "rng", rng)

    def fold(self, belief, transitions):
        """As ever, but some runs stall."""
        if self.rng.random() < 0.2:
            time.sleep(0.01)  # the stall is what is tried: on the networks' thread, nobody waits for it
        return super().fold(belief, transitions)


class Caller:
    """One client after the other on one task."""

    def __init__(self, index, stepper, table, adapter, rng):
        self._index, self._stepper, self._table, self._adapter, self._rng = index, stepper, table, adapter, rng
        self.counts = {"events": 0, "cancelled": 0, "reopened": 0}
        self._open()

    def _open(self):
        self.session_id = self._table.open(self._adapter.start()).session_id
        self.told, self.action = [], None

    async def act(self):
        """Tell one event, perhaps in several attempts."""
        number = len(self.told) + 1
        draw = np.random.default_rng([self._index, number])
        observation = (self._index / NUM_SESSIONS + 0.1 * draw.normal(size=2)).astype(np.float32)
        begins = number % (HORIZON + 1) == 1
        event = BeginEpisode(observation) if begins else Transition(observation, self._index / NUM_SESSIONS)
        call = self._call(number, event)
        while self._rng.random() < 0.2:
            for _ in range(self._rng.randrange(4)):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            self.counts["cancelled"] += 1
            call = self._call(number, event)
        answer = await asyncio.wait_for(call, LIMIT_S)
        assert answer.sequence == number
        applied = None if begins else self.action
        self.told.append(event if begins else Transition(event.observation, event.reward, applied_action=applied))
        self.action = answer.reaction.action
        self.counts["events"] += 1
        if self._rng.random() < 0.02:
            self._table.close(self.session_id, self._table.token(self.session_id))
            self.counts["reopened"] += 1
            self._open()

    def _call(self, number, event):
        return asyncio.ensure_future(self._stepper.step(self.session_id, number, event))

    def expected(self):
        """The belief that this story alone leads to."""
        memory = self._adapter.start()
        for event in self.told:
            ((memory, _),) = self._adapter.step([memory], [event])
        return memory.belief


async def campaign(num_events, seed, deadline_ms=None):
    """Tell `num_events` events; the counts, of which the last two must be 0."""
    rng = random.Random(seed)
    table = SessionTable(1000, 600.0)
    adapter = Adapter.of(Fitful(random.Random(seed + 1)) if deadline_ms else ScriptedPolicy(Fitful(rng).adaptation))
    stepper = Stepper(adapter, table, action_deadline_ms=deadline_ms)
    callers = [Caller(index, stepper, table, adapter, random.Random(seed + index)) for index in range(NUM_SESSIONS)]

    async def drive(caller):
        for _ in range(num_events // NUM_SESSIONS):
            await caller.act()

    await asyncio.gather(*map(drive, callers))
    async with asyncio.timeout(LIMIT_S):
        while any(session.memory.owed for session in table):
            await asyncio.sleep(0)
    stepper.stop()
    beliefs = {caller: table.find(caller.session_id).memory.belief for caller in callers if caller.told}
    foreign = sum(not np.allclose(caller.expected(), belief, rtol=1e-4) for caller, belief in beliefs.items())
    lasting = [belief for caller, belief in beliefs.items() if len(caller.told) > 1]
    shared = len(lasting) - len({belief.tobytes() for belief in lasting})
    return {
        **{name: sum(caller.counts[name] for caller in callers) for name in ("events", "cancelled", "reopened")},
        "beliefs_of_another_story": foreign,
        "beliefs_that_are_equal": shared,
    }
