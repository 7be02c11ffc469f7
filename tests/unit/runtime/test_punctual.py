"""Actions are in time while the networks are not; the gate stands for networks that stall."""

import asyncio
import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from gated import Gated

from ccm_runtime.adapt import Adapter
from ccm_runtime.batching import Stepper
from ccm_runtime.errors import ServerBusyError, SessionUnknownError, StepGapError
from ccm_runtime.messages import BeginEpisode, Intervention, SafeReason, Transition
from ccm_runtime.owed import MAX_OWED
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy
from ccm_runtime.trial import Phase
from ccm_runtime.vigil import VigilLimits

LIMIT_S = 20.0
DEADLINE_MS = 10.0
SOON = 1000.0


class Bench:
    """A stepper with a deadline, and one session."""

    def __init__(self, deadline_ms=DEADLINE_MS, policy=None, **limits):
        self.policy = policy or Gated()
        self.adapter = Adapter.of(self.policy)
        self.table = SessionTable(100, 60.0)
        self.stepper = Stepper(self.adapter, self.table, action_deadline_ms=deadline_ms, limits=VigilLimits(**limits))
        self.session_id = self.table.open(self.adapter.start()).session_id

    @property
    def session(self):
        return self.table.find(self.session_id)

    async def tell(self, sequence, event):
        return await asyncio.wait_for(self.stepper.step(self.session_id, sequence, event), LIMIT_S)

    async def caught_up(self):
        """Wait until the belief holds every transition."""
        async with asyncio.timeout(LIMIT_S):
            while self.session.memory.owed:
                await asyncio.sleep(0)

    def close(self):
        self.policy.gate.set()
        self.stepper.stop()


@pytest.fixture
def bench(request):
    made = []

    def make(*arguments, **settings):
        made.append(Bench(*arguments, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def event(sequence, leave_safe=False):
    draw = np.random.default_rng(sequence)
    observation = draw.normal(size=2).astype(np.float32)
    if sequence % 6 == 1:
        return BeginEpisode(observation, leave_safe)
    return Transition(observation, float(np.float32(draw.normal())))


def expected(adapter, answers):
    """The memory of an undisturbed trial in which the answered actions were applied."""
    memory = adapter.start()
    action = None
    for sequence, answer in enumerate(answers, 1):
        told = event(sequence)
        if isinstance(told, Transition):
            told = Transition(told.observation, told.reward, told.terminated, told.truncated, applied_action=action)
        ((memory, _),) = adapter.step([memory], [told])
        action = answer.reaction.action
    return memory


async def test_the_fallback_is_answered_while_the_networks_still_run(bench):
    made = bench()
    made.policy.gate.clear()
    began_s = time.perf_counter()
    answer = await made.tell(1, event(1))
    assert not made.policy.gate.is_set()
    assert (time.perf_counter() - began_s) * 1000 >= DEADLINE_MS
    assert (Intervention.LATE,) == answer.reaction.interventions
    np.testing.assert_array_equal(np.zeros(2), answer.reaction.action)


async def test_an_action_in_time_is_the_policys(bench):
    made = bench(deadline_ms=60_000.0)
    answers = [await made.tell(sequence, event(sequence)) for sequence in range(1, 13)]
    assert () == sum((answer.reaction.interventions for answer in answers), ())
    alone = Stepper(made.adapter, table := SessionTable(100, 60.0))
    session = table.open(made.adapter.start())
    for sequence, answer in enumerate(answers, 1):
        same = await alone.step(session.session_id, sequence, event(sequence))
        assert same.reaction.episode_over == answer.reaction.episode_over
        if answer.reaction.action is not None:
            np.testing.assert_array_equal(same.reaction.action, answer.reaction.action)


@pytest.mark.parametrize("seed", range(4))
async def test_the_belief_gets_every_transition_once_whenever_the_networks_stall(bench, seed):
    made, rng, answers = bench(), random.Random(seed), []
    for sequence in range(1, 37):
        (made.policy.gate.set if rng.random() < 0.5 else made.policy.gate.clear)()
        answers.append(await made.tell(sequence, event(sequence)))
        assert sequence == answers[-1].sequence
    assert any(Intervention.LATE in answer.reaction.interventions for answer in answers)
    made.policy.gate.set()
    await made.caught_up()
    wanted, memory = expected(made.adapter, answers), made.session.memory
    np.testing.assert_allclose(wanted.belief, memory.belief, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(wanted.latent, memory.latent, rtol=1e-5, atol=1e-6)
    assert wanted.trial == memory.trial
    assert wanted.returns == memory.returns
    assert wanted.num_events == memory.num_events


async def test_a_late_end_of_an_episode_that_shows_another_task_leaves_what_is_known(bench):
    made = bench(deadline_ms=100.0)
    made.session_id = made.table.open(made.adapter.start(explore_episodes=0, re_explore=True)).session_id
    for sequence in range(1, 13):  # two episodes of the executor, of which the second is bad
        told = event(sequence)
        if isinstance(told, Transition):
            told = replace(told, reward=10.0 if sequence < 7 else 1.0)
        if sequence == 12:
            made.policy.gate.clear()
        answer = await made.tell(sequence, told)
    assert (True, False) == (answer.reaction.episode_over, answer.reaction.task_changed)
    made.policy.gate.set()
    await made.caught_up()
    memory = made.session.memory
    assert (0, Phase.EXECUTE) == (memory.trial.explore_episodes, memory.trial.phase)
    assert [1.0 + 0.5 * 10] * 2 == memory.belief[:2].tolist()  # it holds all ten transitions, and has forgotten none


async def test_a_late_result_is_no_later_steps_action(bench):
    made = bench()
    await made.tell(1, event(1))
    made.policy.gate.clear()
    late = await made.tell(2, event(2))
    made.policy.gate.set()
    await made.caught_up()
    assert 2 == made.session.last_answer.sequence
    assert late is await made.tell(2, event(2))  # what was answered stays answered
    answer = await made.tell(3, event(3))
    if not answer.reaction.interventions:  # a busy machine may miss this one too
        memory = made.session.memory
        wanted = made.policy.explore(event(3).observation[None], memory.belief[None], np.zeros((1, 2), np.float32))
        np.testing.assert_allclose(wanted[0], answer.reaction.action, rtol=1e-5)


async def test_a_number_repeated_while_the_networks_run_gets_the_same_answer(bench):
    made = bench()
    made.policy.gate.clear()
    first, second = await asyncio.gather(made.tell(1, event(1)), made.tell(1, event(1)))
    assert first is second
    with pytest.raises(StepGapError):
        await made.tell(5, event(5))


async def test_the_next_number_waits_for_the_answer_before_it(bench):
    made = bench()
    first, second = await asyncio.gather(made.tell(1, event(1)), made.tell(2, event(2)))
    assert [1, 2] == [first.sequence, second.sequence]


async def test_an_event_is_taken_even_if_its_caller_gives_up(bench):
    made = bench()
    made.policy.gate.clear()
    call = asyncio.create_task(made.tell(1, event(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert 1 == (await made.tell(1, event(1))).sequence
    assert 2 == (await made.tell(2, event(2))).sequence


async def test_a_session_that_is_closed_meanwhile_stays_closed(bench):
    made = bench(deadline_ms=60_000.0)
    made.policy.gate.clear()
    call = asyncio.create_task(made.tell(1, event(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    made.table.close(made.session_id, made.table.token(made.session_id))
    made.policy.gate.set()
    with pytest.raises(SessionUnknownError, match="closed"):
        await call
    assert 0 == len(made.table)


async def test_a_session_that_came_back_from_another_server_meanwhile_is_left_as_it_came(bench):
    made = bench(deadline_ms=60_000.0)
    for sequence in (1, 2):
        await made.tell(sequence, event(sequence))
    made.policy.gate.clear()
    call = asyncio.create_task(made.tell(3, event(3)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    came = replace(made.session, epoch=2)
    made.table.take_in(came)
    made.policy.gate.set()
    with pytest.raises(SessionUnknownError, match="another server"):
        await call
    assert made.session is came


async def test_a_fault_of_the_networks_leaves_the_session_as_it_was(bench):
    class Faulty(Gated):
        def explore(self, observation, belief, noise):
            raise RuntimeError("out of memory")

    made = bench(deadline_ms=60_000.0, policy=Faulty())
    with pytest.raises(RuntimeError, match="out of memory"):
        await made.tell(1, event(1))
    assert 1 == made.session.next_sequence


async def test_after_so_many_misses_a_session_is_safe_and_says_why(bench):
    made = bench(max_misses=3)
    made.policy.gate.clear()
    answers = [await made.tell(sequence, event(sequence)) for sequence in range(1, 5)]
    assert [None, None, SafeReason.MISSES, SafeReason.MISSES] == [answer.safe for answer in answers]
    assert (Intervention.SAFE,) == answers[3].reaction.interventions
    np.testing.assert_array_equal(np.zeros(2), answers[3].reaction.action)


async def test_a_safe_session_answers_the_fallback_at_once_until_it_is_told_to_leave(bench):
    made = bench(deadline_ms=SOON, max_misses=1)
    made.policy.gate.clear()
    answers = [await made.tell(1, event(1))]
    began_s = time.perf_counter()
    answers += [await made.tell(sequence, event(sequence)) for sequence in range(2, 7)]
    assert (time.perf_counter() - began_s) * 1000 < SOON
    made.policy.gate.set()
    answers.append(await made.tell(7, event(7)))  # well again, and an episode begins: still SAFE
    assert {SafeReason.MISSES} == {answer.safe for answer in answers}
    answers += [await made.tell(sequence, event(sequence)) for sequence in range(8, 13)]
    await made.caught_up()
    np.testing.assert_allclose(expected(made.adapter, answers).belief, made.session.memory.belief, rtol=1e-5)
    left = await made.tell(13, event(13, leave_safe=True))
    assert left.safe is None
    assert () == left.reaction.interventions


async def test_a_session_owes_its_belief_so_much_and_no_more(bench):
    made = bench(deadline_ms=1.0, max_misses=1, policy=Gated())
    made.policy.gate.clear()
    sequence = 1
    while len(made.session.memory.owed) < MAX_OWED:
        await made.tell(sequence, event(sequence))
        sequence += 1
    with pytest.raises(ServerBusyError, match="networks have not answered"):
        await made.tell(sequence, event(sequence))
    assert MAX_OWED == len(made.session.memory.owed)
    made.policy.gate.set()
    await made.caught_up()
    assert sequence == (await made.tell(sequence, event(sequence))).sequence


async def test_a_run_for_sessions_waits_for_one_of_the_jobs_beside_them_and_not_for_all(bench):
    order, busy = [], threading.Event()

    class Noting(Gated):
        def explore(self, *inputs):
            order.append("event")
            return super().explore(*inputs)

    def job(number):
        assert busy.wait(LIMIT_S)
        order.append(number)

    made = bench(deadline_ms=60_000.0, policy=Noting())
    jobs = [asyncio.create_task(made.stepper.beside(lambda number=number: job(number))) for number in range(4)]
    await asyncio.sleep(0)
    told = asyncio.create_task(made.tell(1, event(1)))
    await asyncio.sleep(0)
    busy.set()
    await asyncio.gather(told, *jobs)
    assert [0, "event", 1, 2, 3] == order


async def test_those_who_gave_up_while_the_networks_hang_leave_one_job_behind(bench):
    busy, done = threading.Event(), []
    made = bench()
    for number in range(20):
        call = asyncio.create_task(
            made.stepper.beside(lambda number=number: busy.wait(LIMIT_S) and done.append(number))
        )
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    busy.set()
    assert 3 == await made.stepper.beside(lambda: 3)
    assert [0] == done


async def test_an_event_that_is_refused_for_what_is_owed_is_not_in_the_belief(bench, monkeypatch):
    class FoldsLater(Gated):
        def __init__(self):
            super().__init__()
            object.__setattr__(self, "folds", threading.Event())
            self.folds.set()

        def fold(self, belief, transitions):
            assert self.folds.wait(LIMIT_S)
            return ScriptedPolicy.fold(self, belief, transitions)

    monkeypatch.setattr("ccm_runtime.owed.MAX_OWED", 2)
    made = bench(deadline_ms=100.0, policy=FoldsLater())
    made.policy.gate.clear()
    made.policy.folds.clear()
    answers = [await made.tell(sequence, event(sequence)) for sequence in (1, 2, 3)]
    refused = asyncio.create_task(made.tell(4, event(4)))
    await asyncio.sleep(0)
    made.policy.gate.set()  # the run of event 1 ends, and one with event 4 begins
    with pytest.raises(ServerBusyError):
        await refused
    made.policy.folds.set()
    await made.caught_up()
    np.testing.assert_allclose(expected(made.adapter, answers).belief, made.session.memory.belief, rtol=1e-5)
    answers.append(await made.tell(4, event(4)))
    await made.caught_up()
    np.testing.assert_allclose(expected(made.adapter, answers).belief, made.session.memory.belief, rtol=1e-5)


@pytest.mark.parametrize("stalls", [False, True])
async def test_a_session_that_cannot_be_stored_is_answered_with_the_fault_and_not_locked(bench, stalls):
    class Full:
        def changed(self, session):
            raise MemoryError

        def removed(self, session):
            pass

    here = bench(DEADLINE_MS if stalls else SOON)
    await here.tell(1, event(1))
    if stalls:
        here.policy.gate.clear()
    here.table.journal = Full()
    with pytest.raises(MemoryError):
        await here.tell(2, event(2))
    here.table.journal = None
    assert 2 == (await here.tell(2, event(2))).sequence
