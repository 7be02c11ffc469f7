"""A robot has an action in time, the server's or the safe one; what happens in a silence is told after it."""

import asyncio
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from ccm_runtime.async_session import AsyncSession
from ccm_runtime.client import Session
from ccm_runtime.errors import (
    ConfigError,
    DeadlineError,
    ServerBusyError,
    SessionError,
    SessionUnknownError,
    SpecError,
    TrialOrderError,
)
from ccm_runtime.pilot import MAX_UNTOLD, AsyncPilot, Pilot
from ccm_runtime.specs import BoxSpec
from ccm_runtime.testing import box
from ccm_runtime.watchdog import Watchdog

SAFE = np.array([0.5, -0.5], np.float32)
VALID_MS = 20.0


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def vec(*values):
    return np.array(values, np.float32)


def test_an_action_may_be_applied_while_it_is_valid_and_then_the_safe_one():
    clock = Clock()
    dog = Watchdog(box("action", 2, 1.0), SAFE, clock)
    np.testing.assert_array_equal(SAFE, dog.action)
    dog.renew(vec(0.25, 0.25), 100)
    clock.now_s = 0.099
    np.testing.assert_array_equal(vec(0.25, 0.25), dog.action)
    assert 0.001 == pytest.approx(dog.left_s)
    clock.now_s = 0.1
    np.testing.assert_array_equal(SAFE, dog.action)
    assert 0.0 == dog.left_s


def test_without_a_safe_action_it_is_the_nearest_to_zero_that_the_bounds_allow():
    spec = BoxSpec(name="a", labels=("x", "y"), units=("1", "1"), low=(0.25, -1.0), high=(1.0, None))
    np.testing.assert_array_equal(vec(0.25, 0.0), Watchdog(spec).safe_action)


def test_a_safe_action_that_does_not_fit_is_refused():
    with pytest.raises(SpecError, match="3"):
        Watchdog(box("action", 2, 1.0), (0.0, 0.0, 0.0))
    with pytest.raises(SpecError, match=r"5, outside \[-1\.0, 1\.0\]"):
        Watchdog(box("action", 2, 1.0), (0.0, 5.0))


@pytest.mark.parametrize("action", [None, 2, (0.0,), (0.0, float("nan")), "left"])
def test_a_watchdog_takes_no_action_in_that_cannot_be_applied(action):
    dog = Watchdog(box("action", 2, 1.0), SAFE, Clock())
    with pytest.raises(
        SpecError, match=r"^action: (expected 2 values \(action_0, action_1\), got|entry action_1 is nan)"
    ):
        dog.renew(action, 100)
    np.testing.assert_array_equal(SAFE, dog.action)


@pytest.mark.parametrize("valid_for_ms", [None, "soon", -1, float("nan"), float("inf"), [1]])
def test_an_action_is_valid_for_some_time_and_not_for_ever(valid_for_ms):
    dog = Watchdog(box("action", 2, 1.0), SAFE, Clock())
    with pytest.raises(SpecError, match=r"^valid_for_ms: expected a number of milliseconds from 0 up, got"):
        dog.renew(vec(0.25, 0.25), valid_for_ms)
    np.testing.assert_array_equal(SAFE, dog.action)


def test_a_watchdog_and_pilots_say_what_they_are_made_of():
    with pytest.raises(ConfigError, match=r"^action: expected a BoxSpec, as session.agent.action is; got int$"):
        Watchdog(2)
    with pytest.raises(ConfigError, match=r"^clock: expected a function such as time.monotonic, got int$"):
        Watchdog(box("action", 2, 1.0), clock=5)
    blocking = object.__new__(Session)
    with pytest.raises(ConfigError, match=r"^session: .* AsyncClient, got Session; drive that one with a Pilot$"):
        AsyncPilot(blocking)
    with pytest.raises(ConfigError, match=r"^session: expected one of an AsyncClient, got NoneType$"):
        AsyncPilot(None)
    with pytest.raises(ConfigError, match=r"^session: .*, got AsyncSession; drive that one with an AsyncPilot$"):
        Pilot(object.__new__(AsyncSession))
    with pytest.raises(ConfigError, match=r"^session: expected one that client.open_session\(\) gave, got str$"):
        Pilot("127.0.0.1:7070")


class Server:
    """A session whose server answers event n with (n, n) once it is not silent."""

    def __init__(self):
        self.agent = SimpleNamespace(action=box("action", 2), observation=box("observation", 2), horizon=5000)
        self.answer = SimpleNamespace(valid_for_ms=VALID_MS)
        self.awake = asyncio.Event()
        self.awake.set()
        self.told, self.seen, self.faults = [], [], []

    async def begin_episode(self, observation, *, leave_safe=False, abandon=False):
        return await self._answer(("begin", None))

    async def act(self, observation, reward, *, terminated=False, truncated=False, applied_action=None):
        if self.faults:
            raise self.faults.pop()
        action = await self._answer((reward, applied_action))
        self.seen.append(observation.tolist())
        return None if terminated or truncated else action

    async def _answer(self, told):
        await self.awake.wait()
        self.told.append(told)
        return vec(len(self.told), len(self.told))


OBSERVED = vec(0.0, 0.0)


async def flying():
    server = Server()
    pilot = AsyncPilot(server, SAFE)
    await pilot.begin_episode(OBSERVED)
    return server, pilot


async def test_a_server_that_answers_is_obeyed():
    server, pilot = await flying()
    np.testing.assert_array_equal(vec(2, 2), await pilot.act(OBSERVED, 1.0))
    assert 0 == pilot.num_safe
    assert [("begin", None), (1.0, None)] == server.told


async def test_while_the_server_is_silent_the_safe_action_is_given():
    server, pilot = await flying()
    server.awake.clear()
    for reward in (1.0, 2.0, 3.0):
        np.testing.assert_array_equal(SAFE, await pilot.act(OBSERVED, reward))
    assert 3 == pilot.num_safe
    await pilot.close()


async def test_a_robot_whose_own_steps_leave_no_time_to_ask_is_told_so_once_and_is_safe():
    server, clock = Server(), Clock()
    pilot = AsyncPilot(server, SAFE, clock)
    await pilot.begin_episode(OBSERVED)
    np.testing.assert_array_equal(vec(2, 2), await pilot.act(OBSERVED, 1.0))
    server.awake.clear()  # as a network: no answer comes in no time
    clock.now_s += 0.95 * VALID_MS / 1000
    with pytest.warns(UserWarning, match=r"no time to ask .* valid for 20 ms, .* or raise the server's --action"):
        np.testing.assert_array_equal(SAFE, await pilot.act(OBSERVED, 2.0))
    clock.now_s += 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(SAFE, await pilot.act(OBSERVED, 3.0))
    assert 2 == pilot.num_safe


async def test_after_a_silence_all_is_told_in_order_and_only_the_last_answer_is_applied():
    server, pilot = await flying()
    server.awake.clear()
    await pilot.act(OBSERVED, 1.0)
    await pilot.act(OBSERVED, 2.0)
    server.awake.set()
    np.testing.assert_array_equal(vec(4, 4), await pilot.act(OBSERVED, 3.0))
    rewards, applied = zip(*server.told, strict=True)
    assert ("begin", 1.0, 2.0, 3.0) == rewards
    assert (None, None) == applied[:2]  # the first transition was made with the server's own action
    np.testing.assert_array_equal([SAFE, SAFE], applied[2:])


async def test_an_event_that_met_a_broken_connection_is_told_again():
    server, pilot = await flying()
    server.faults = [DeadlineError("no answer"), DeadlineError("no answer")]
    np.testing.assert_array_equal(vec(2, 2), await pilot.act(OBSERVED, 1.0))
    assert 2 == len(server.told)


async def test_a_session_that_is_gone_is_an_error_and_no_silence():
    server, pilot = await flying()
    server.faults = [SessionUnknownError("gone")]
    with pytest.raises(SessionUnknownError, match="gone"):
        await pilot.act(OBSERVED, 1.0)


async def test_an_error_that_came_when_nobody_waited_is_told_with_the_next_transition_and_once():
    server, pilot = await flying()
    server.awake.clear()
    server.answer.valid_for_ms = 0.0  # nobody waits for an answer
    for reward in (1.0, 2.0):
        np.testing.assert_array_equal(SAFE, await pilot.act(OBSERVED, reward))
    server.faults = [SessionUnknownError("gone")]
    server.awake.set()
    await asyncio.wait([pilot._telling])
    with pytest.raises(SessionUnknownError, match="gone"):
        await pilot.act(OBSERVED, 3.0)
    await pilot.act(OBSERVED, 4.0)
    while pilot._untold:
        await asyncio.sleep(0)
    assert ["begin", 1.0, 2.0, 3.0, 4.0] == [reward for reward, _ in server.told]


@pytest.mark.parametrize("steps", [False, True])
async def test_what_the_server_refuses_as_its_episode_is_over_is_dropped_and_the_next_one_begins(steps):
    server, pilot = await flying()
    server.awake.clear()
    server.answer.valid_for_ms = 0.0  # nobody waits for an answer
    for reward in (1.0, 2.0):
        await pilot.act(OBSERVED, reward)
    server.faults = [TrialOrderError("no episode is under way")]
    server.awake.set()
    await asyncio.wait([pilot._telling])
    if steps:
        with pytest.raises(TrialOrderError, match="no episode is under way"):
            await pilot.act(OBSERVED, 3.0)
    await pilot.begin_episode(OBSERVED)
    await pilot.act(OBSERVED, 4.0)
    await pilot.begin_episode(OBSERVED, abandon=True)
    assert ["begin", 1.0, "begin", 4.0, "begin"] == [reward for reward, _ in server.told]


async def test_who_steps_as_the_server_refuses_it_is_told_and_begins():
    server, pilot = await flying()
    server.faults = [TrialOrderError("no episode is under way")]
    with pytest.raises(TrialOrderError, match="no episode is under way"):
        await pilot.act(OBSERVED, 1.0)
    await pilot.begin_episode(OBSERVED)
    np.testing.assert_array_equal(vec(3, 3), await pilot.act(OBSERVED, 2.0))


async def test_whoever_waits_while_the_pilot_is_closed_is_told_so_and_is_not_cancelled():
    server = Server()
    server.answer.valid_for_ms = 20_000.0
    pilot = AsyncPilot(server, SAFE)
    await pilot.begin_episode(OBSERVED)
    server.awake.clear()
    step = asyncio.create_task(pilot.act(OBSERVED, 1.0))
    while pilot._telling is None:
        await asyncio.sleep(0)
    await pilot.close()
    with pytest.raises(SessionError, match="the pilot was closed"):
        await step


async def test_whoever_begins_an_episode_while_the_pilot_is_closed_is_told_so_and_may_be_cancelled_as_well():
    server, pilot = await flying()
    server.awake.clear()
    server.answer.valid_for_ms = 0.0  # nobody waits for an answer
    await pilot.act(OBSERVED, 1.0)
    for ends, error in ((pilot.close, SessionError), (None, asyncio.CancelledError)):
        begins = asyncio.create_task(pilot.begin_episode(OBSERVED))
        await asyncio.sleep(0)  # it waits
        await ends() if ends else begins.cancel()
        with pytest.raises(error):
            await begins


async def test_an_episode_that_ends_in_a_silence_is_told_before_the_next_begins():
    server, pilot = await flying()
    server.awake.clear()
    assert await pilot.act(OBSERVED, 1.0, terminated=True) is None
    beginning = asyncio.create_task(pilot.begin_episode(OBSERVED))
    await asyncio.sleep(0)
    assert not beginning.done()
    server.awake.set()
    await beginning
    assert ["begin", 1.0, "begin"] == [reward for reward, _ in server.told]


async def test_a_beginning_does_not_wait_longer_than_a_call_and_may_be_tried_again():
    server, pilot = await flying()
    answers = server.act

    async def no_answer(*_, **__):
        await asyncio.sleep(0.005)
        raise DeadlineError("no answer")

    server.act = no_answer
    assert await pilot.act(OBSERVED, 1.0, terminated=True) is None
    for _ in range(2):
        with pytest.raises(DeadlineError):
            await asyncio.wait_for(pilot.begin_episode(OBSERVED), 10.0)
    server.act = answers
    await pilot.begin_episode(OBSERVED)
    assert ["begin", 1.0, "begin"] == [reward for reward, _ in server.told]


async def test_a_beginning_that_was_given_up_may_be_tried_again():
    server, pilot = await flying()
    server.awake.clear()
    assert await pilot.act(OBSERVED, 1.0, terminated=True) is None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pilot.begin_episode(OBSERVED), 0.01)
    server.awake.set()
    await pilot.begin_episode(OBSERVED)
    assert ["begin", 1.0, "begin"] == [reward for reward, _ in server.told]


async def test_a_server_that_is_busy_and_says_when_it_is_not_is_silent_and_another_is_an_error():
    server, pilot = await flying()
    server.faults = [ServerBusyError("busy", retry_after_s=1.0)]
    np.testing.assert_array_equal(vec(2, 2), await pilot.act(OBSERVED, 1.0))
    server.faults = [ServerBusyError("the networks have not answered")]
    with pytest.raises(ServerBusyError):
        await pilot.act(OBSERVED, 1.0)


@pytest.mark.parametrize(
    ("observation", "reward", "message"),
    [((0.0,), 1.0, "observation"), (OBSERVED, float("nan"), "reward is nan"), (OBSERVED, None, "got NoneType")],
)
async def test_what_cannot_be_is_refused_and_nothing_has_happened(observation, reward, message):
    server, pilot = await flying()
    with pytest.raises(SpecError, match=message):
        await pilot.act(observation, reward)
    np.testing.assert_array_equal(vec(2, 2), await pilot.act(OBSERVED, 2.0))
    assert [("begin", None), (2.0, None)] == server.told


@pytest.mark.parametrize("silent", [False, True])
async def test_a_step_outside_an_episode_is_refused_and_the_next_one_begins(silent):
    server, pilot = await flying()
    server.awake.clear() if silent else None
    assert await pilot.act(OBSERVED, 1.0, terminated=True) is None
    with pytest.raises(TrialOrderError, match="begin one before stepping"):
        await pilot.act(OBSERVED, 2.0)
    server.awake.set()
    await pilot.begin_episode(OBSERVED)
    assert ["begin", 1.0, "begin"] == [reward for reward, _ in server.told]


async def test_arrays_that_the_robot_writes_into_again_change_nothing():
    server, pilot = await flying()
    server.awake.clear()
    observed = vec(1.0, 1.0)
    for _ in range(2):
        action = await pilot.act(observed, 1.0)
        np.testing.assert_array_equal(SAFE, action)
        action *= 10.0
        observed += 1.0
    np.testing.assert_array_equal(SAFE, pilot.watchdog.action)
    server.awake.set()
    await pilot.act(observed, 1.0)
    assert [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]] == server.seen
    np.testing.assert_array_equal(SAFE, server.told[-1][1])


async def test_after_a_step_that_is_cancelled_the_robot_did_what_the_watchdog_said():
    server = Server()
    pilot = AsyncPilot(server, SAFE, Clock())
    given = await pilot.begin_episode(OBSERVED)
    server.awake.clear()
    step = asyncio.create_task(pilot.act(OBSERVED, 1.0))
    await asyncio.sleep(0)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    server.awake.set()
    await pilot.act(OBSERVED, 2.0)
    assert [("begin", None), (1.0, None)] == server.told[:2]
    reward, applied = server.told[2]
    assert 2.0 == reward
    np.testing.assert_array_equal(given, applied)  # and not the answer that nobody waited for


async def test_what_is_untold_is_bounded():
    server, pilot = await flying()
    server.awake.clear()
    server.answer.valid_for_ms = 0.0
    for _ in range(MAX_UNTOLD):
        await pilot.act(OBSERVED, 1.0)
    with pytest.raises(SessionError, match="silent for 1024 transitions"):
        await pilot.act(OBSERVED, 1.0)
    await pilot.close()
