"""Sessions that are stepped in one batch get the answers that they get alone, each event once and in order."""

import asyncio
import time

import numpy as np
import pytest

from ccm_runtime.adapt import Adapter
from ccm_runtime.batching import Step, Stepper
from ccm_runtime.errors import ServerUnreachableError, SessionUnknownError, SpecError, StepGapError
from ccm_runtime.messages import BeginEpisode, Intervention, Transition
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy


class CountingPolicy(ScriptedPolicy):
    """Remembers how many rows each run of the explorer had."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "rows", [])

    def explore(self, observation, belief, noise):
        self.rows.append(len(observation))
        return super().explore(observation, belief, noise)


class Bench:
    """A stepper over a table, with `count` open sessions."""

    def __init__(self, count=2, policy=None, **settings):
        self.policy = policy or CountingPolicy()
        self.adapter = Adapter.of(self.policy)
        self.table = SessionTable(100, 60.0)
        self.stepper = Stepper(self.adapter, self.table, **settings)
        self.sessions = [self.table.open(self.adapter.start()) for _ in range(count)]

    def step(self, index, sequence, event):
        return Step(self.sessions[index].session_id, sequence, event, 0.0)

    def call(self, index, sequence, event):
        return self.stepper.step(self.sessions[index].session_id, sequence, event)


BEGIN = BeginEpisode(np.array([0.5, 0.5], np.float32))
MOVED = Transition(np.array([0.1, 0.2], np.float32), 1.0)
BAD = BeginEpisode(np.array([0.5], np.float32))


async def test_what_arrives_in_one_tick_is_one_batch():
    bench = Bench(8)
    await asyncio.gather(*(bench.call(i, 1, BEGIN) for i in range(8)))
    assert [8] == bench.policy.rows


async def test_a_lone_session_is_stepped_at_once():
    bench = Bench(1)
    answer = await bench.call(0, 1, BEGIN)
    assert 1 == answer.sequence
    assert 1 == bench.stepper.num_batches


async def test_the_next_event_waits_for_the_one_before_it_also_when_its_session_has_become_the_only_one():
    bench = Bench(2)
    first = asyncio.create_task(bench.call(0, 1, BEGIN))
    await asyncio.sleep(0)
    bench.table.close(bench.sessions[1].session_id, bench.table.token(bench.sessions[1].session_id))
    assert 2 == (await bench.call(0, 2, MOVED)).sequence
    assert 1 == (await first).sequence


async def test_who_waits_for_a_session_to_settle_waits_for_its_events_alone():
    bench = Bench(3)
    telling = [asyncio.create_task(bench.call(index, 1, BEGIN)) for index in (0, 1)]
    await asyncio.sleep(0)
    await bench.stepper.settled(bench.sessions[2].session_id)
    assert not any(told.done() for told in telling)
    await bench.stepper.settled(bench.sessions[1].session_id)
    assert 2 == bench.table.find(bench.sessions[1].session_id).next_sequence
    await asyncio.gather(*telling)


async def test_a_batch_has_at_most_max_batch_rows():
    bench = Bench(5, max_batch=2)
    answers = await asyncio.gather(*(bench.call(i, 1, BEGIN) for i in range(5)))
    assert [2, 2, 1] == bench.policy.rows
    assert 5 == len(answers)


async def test_a_session_whose_event_has_come_is_not_idle_before_it_is_answered():
    bench, now_s = Bench(2), [0.0]

    class Slow(CountingPolicy):
        def explore(self, observation, belief, noise):
            now_s[0] += 1.0
            assert 0 == bench.table.expire()
            return super().explore(observation, belief, noise)

    bench.policy = Slow()
    bench.adapter = Adapter.of(bench.policy)
    bench.table = SessionTable(100, 60.0, clock=lambda: now_s[0])
    bench.stepper = Stepper(bench.adapter, bench.table)
    bench.sessions = [bench.table.open(bench.adapter.start(), tenant="one") for _ in range(2)]
    now_s[0] = 59.5
    await asyncio.gather(*(bench.call(i, 1, BEGIN) for i in range(2)))
    now_s[0] += 61.0
    assert 2 == bench.table.expire()
    assert 0 == bench.table._num_of.total()


async def test_batched_sessions_get_the_answers_that_they_get_alone():
    together, alone = Bench(6), Bench(6)
    events = [BeginEpisode(np.array([0.1 * i, 0.2], np.float32)) for i in range(6)]
    batched = await asyncio.gather(*(together.call(i, 1, event) for i, event in enumerate(events)))
    single = [alone.stepper.run([alone.step(i, 1, event)])[0] for i, event in enumerate(events)]
    for one, other in zip(batched, single, strict=True):
        np.testing.assert_array_equal(one.reaction.action, other.reaction.action)


async def test_a_bad_event_in_a_batch_harms_nobody_else():
    bench = Bench(3)
    outcomes = await asyncio.gather(
        bench.call(0, 1, BEGIN), bench.call(1, 1, BAD), bench.call(2, 7, BEGIN), return_exceptions=True
    )
    assert 1 == outcomes[0].sequence
    assert isinstance(outcomes[1], SpecError)
    assert isinstance(outcomes[2], StepGapError)
    assert 1 == (await bench.call(1, 1, BEGIN)).sequence


async def test_two_events_of_one_session_in_a_tick_are_taken_in_order():
    bench = Bench(2)
    first, second = await asyncio.gather(bench.call(0, 1, BEGIN), bench.call(0, 2, MOVED))
    assert [0, 1] == [first.reaction.step, second.reaction.step]


async def test_a_duplicate_in_the_same_tick_gets_the_same_answer():
    bench = Bench(2)
    first, second = await asyncio.gather(bench.call(0, 1, BEGIN), bench.call(0, 1, BEGIN))
    assert first is second


async def test_an_event_whose_caller_gave_up_is_not_taken():
    bench = Bench(2)
    call = asyncio.create_task(bench.call(0, 1, BEGIN))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await bench.call(1, 1, BEGIN)
    assert 1 == (await bench.call(0, 1, BEGIN)).sequence
    assert [1, 1] == bench.policy.rows


async def test_a_fault_of_the_networks_leaves_every_session_as_it_was():
    class Faulty(ScriptedPolicy):
        def explore(self, observation, belief, noise):
            raise RuntimeError("out of memory")

    bench = Bench(2, Faulty())
    outcomes = await asyncio.gather(bench.call(0, 1, BEGIN), bench.call(1, 9, BEGIN), return_exceptions=True)
    assert isinstance(outcomes[0], RuntimeError)
    assert isinstance(outcomes[1], StepGapError)
    assert [1, 1] == [session.next_sequence for session in bench.table]


async def test_an_unknown_session_is_refused():
    with pytest.raises(SessionUnknownError):
        await Bench(1).stepper.step("nobody", 1, BEGIN)


async def test_while_draining_episodes_end_but_none_begins():
    bench = Bench(1)
    await bench.call(0, 1, BEGIN)
    bench.stepper.draining = True
    answer = await bench.call(0, 2, MOVED)
    assert answer.draining
    await bench.call(0, 3, Transition(MOVED.observation, 0.0, terminated=True))
    with pytest.raises(ServerUnreachableError, match="shutting down"):
        await bench.call(0, 4, BEGIN)


async def test_an_action_past_its_deadline_is_the_fallback():
    ticks = iter(range(100))
    bench = Bench(1, action_deadline_ms=500.0, clock=lambda: float(next(ticks)))
    answer = await bench.call(0, 1, BEGIN)
    assert (Intervention.LATE,) == answer.reaction.interventions
    np.testing.assert_array_equal(np.zeros(2), answer.reaction.action)


class Full:
    """A journal that takes nothing of one session."""

    def __init__(self, session_id):
        self.session_id = session_id

    def changed(self, session):
        if session.session_id == self.session_id:
            raise MemoryError

    def removed(self, session):
        pass


class Written:
    """A recorder that remembers what it was told."""

    def __init__(self):
        self.events = []

    def took(self, _, before, answer, *, fell_back):
        assert not fell_back
        self.events.append((before.session_id, answer.sequence))


async def test_a_session_that_cannot_be_stored_holds_up_nobody_else_and_is_answered_with_the_fault():
    recorder = Written()
    bench = Bench(3, recorder=recorder)
    await asyncio.gather(*(bench.call(i, 1, BEGIN) for i in range(3)))
    bench.table.journal = Full(bench.sessions[0].session_id)
    async with asyncio.timeout(20.0):
        fault, *others = await asyncio.gather(*(bench.call(i, 2, MOVED) for i in range(3)), return_exceptions=True)
    assert isinstance(fault, MemoryError)
    assert [2, 2] == [answer.sequence for answer in others]
    assert 5 == bench.stepper.num_steps == len(recorder.events)
    bench.table.journal = None
    assert 2 == (await bench.call(0, 2, MOVED)).sequence
    assert 6 == bench.stepper.num_steps == len(set(recorder.events)) == len(recorder.events)


async def test_a_client_that_sends_one_event_very_often_costs_as_much_as_its_events_and_no_more():
    bench = Bench(2)
    steps = [bench.step(0, 1, BEGIN)] * 20_000
    began_s = time.process_time()
    first, *others = bench.stepper.run([*steps, bench.step(1, 1, BEGIN)])[:-1]
    assert time.process_time() - began_s < 5.0  # it took more while each looked at all others
    assert all(one is first for one in others)
