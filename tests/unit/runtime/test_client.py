"""A client's session is told each event once, whatever becomes of connections and servers; every call ends in time."""

import asyncio
import gc
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scripted_server import AGENT, Scripted, listening

from ccm_runtime import wire
from ccm_runtime.async_client import AsyncClient, AsyncSession
from ccm_runtime.client import Client
from ccm_runtime.drive import drive
from ccm_runtime.errors import (
    ConfigError,
    ContextMismatchError,
    DeadlineError,
    ServerError,
    ServerUnreachableError,
    SessionError,
    SessionUnknownError,
    SpecError,
    TrialOrderError,
)
from ccm_runtime.messages import Context, EncodedTransition
from ccm_runtime.pilot import AsyncPilot, Pilot
from ccm_runtime.specs import BoxSpec
from ccm_runtime.ticket import Ticket
from ccm_runtime.trial import Phase

ORIGIN = (0.0, 0.0)
SHORT = replace(AGENT, bundle_digest="cd" * 32, horizon=3)


@asynccontextmanager
async def scripted(**client_options):
    server = Scripted()
    async with listening(server) as target, AsyncClient(target, **client_options) as client:
        yield server, client


async def play(session, num_events):
    """Tell `num_events` events, beginning episodes where due; the first entry of each action, 0 where there is none."""
    actions = []
    for _ in range(num_events):
        if session.episode_over:
            action = await session.begin_episode(ORIGIN)
        else:
            action = await session.act(ORIGIN, 1.0)
        actions.append(0 if action is None else int(action[0]))
    return actions


async def test_an_unbroken_session_answers_each_event_once():
    async with scripted() as (server, client), client.open_session() as session:
        assert await play(session, 6) == [1, 2, 3, 4, 0, 6]
        assert server.received == [1, 2, 3, 4, 5, 6]
        assert session.returns == (4.0,)
        assert (
            session.phase,
            session.episode,
            session.episode_over,
            session.certainty,
            session.novelty,
        ) == (Phase.EXPLORE, 1, False, 0.25, 0.5)


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("where", [1, 3, 5])
async def test_a_lost_connection_changes_no_answer(fault, where):
    async with scripted() as (server, client), client.open_session() as session:
        server.breaks = {where: fault}
        assert await play(session, 6) == [1, 2, 3, 4, 0, 6]
        assert session.returns == (4.0,)
        assert server.breaks == {}


async def test_what_a_crash_lost_is_told_again():
    async with scripted() as (server, client), client.open_session() as session:
        server.durable = 2
        await play(session, 4)
        server.crash()
        server.breaks = {5: "before"}
        assert await play(session, 2) == [0, 6]
        assert server.received == [1, 2, 3, 4, 3, 4, 5, 6]


async def test_after_a_crash_the_server_is_told_what_was_truly_applied():
    """It may give another action the second time; the robot has done the first."""
    async with scripted() as (server, client), client.open_session() as session:
        server.durable = 1
        await play(session, 3)
        assert server.applied == [None, None, None]
        server.crash()
        server.breaks = {4: "before"}
        await play(session, 1)
        assert server.received[3:] == [2, 3, 4]
        assert server.applied[3:] == [1.0, 2.0, 3.0]
        await session.begin_episode(ORIGIN) if session.episode_over else await session.act(ORIGIN, 1.0)
        assert server.applied[-1] is None


@pytest.mark.parametrize("crashes", [False, True])
async def test_after_a_change_of_versions_the_next_episode_knows_the_agent_that_it_is_of(crashes):
    """Also where the event that brought the change was lost in a crash, and is told again."""
    async with scripted() as (server, client), client.open_session() as session:
        server.moves, server.durable = {5: SHORT}, 2
        await play(session, 5)
        assert session.version_changed
        if crashes:
            server.crash()
        await play(session, 1)
        assert (SHORT, False) == (session.agent, session.version_changed)
        assert [1, 2, 3, 4, 5, *([3, 4, 5] if crashes else []), 6] == server.received


async def test_after_a_change_of_versions_a_pilot_counts_the_steps_of_the_agent_that_goes_on():
    """Else a silent server would be told of a step after the end, and refuse it and all that follows."""
    async with scripted() as (server, client), client.open_session() as session:
        server.moves = {5: SHORT}
        pilot = AsyncPilot(session)  # these answers are valid for no time: it waits for none, and counts by itself
        for horizon in (AGENT.horizon, SHORT.horizon, SHORT.horizon):
            await pilot.begin_episode(ORIGIN)
            steps = [await pilot.act(ORIGIN, 1.0) is None for _ in range(horizon)]
            assert [*[False] * (horizon - 1), True] == steps
        await pilot.begin_episode(ORIGIN)
        assert list(range(1, 15)) == server.received


async def test_what_is_durable_is_not_kept():
    async with scripted() as (server, client), client.open_session() as session:
        server.durable = 0
        await play(session, 4)
        assert len(session._attachment._kept) == 4
        server.durable = 3
        await play(session, 2)
        assert [sequence for sequence, _ in session._attachment._kept] == [4, 5, 6]


async def test_closing_after_a_crash_tells_the_server_first_what_it_lost():
    async with scripted() as (server, client):
        session = await client.open_session().open()
        server.durable = 1
        await play(session, 3)
        server.crash()
        session._attachment.drop()
        assert (await session.close()).returns == (1.0,)
        assert server.received == [1, 2, 3, 2, 3]


async def test_a_session_that_the_server_lost_ends_with_session_unknown():
    async with scripted() as (server, client), client.open_session() as session:
        await play(session, 2)
        server.forget()
        server.breaks = {3: "before"}
        with pytest.raises(SessionUnknownError, match="open a new one"):
            await play(session, 1)


async def test_a_session_that_another_client_drove_on_is_refused():
    async with scripted() as (server, client), client.open_session() as session:
        await play(session, 1)
        (held,) = server._held.values()
        held.sequence = 7
        server.breaks = {2: "before"}
        with pytest.raises(SessionError, match="waits for event 8, but this client is at 2"):
            await play(session, 1)


async def test_closing_a_session_that_is_gone_succeeds():
    async with scripted() as (server, client):
        session = await client.open_session().open()
        session._attachment.drop()
        server.forget()
        closed = await session.close()
        assert closed.returns == ()


async def test_no_answer_in_time_is_a_deadline_error_and_the_call_may_be_repeated():
    async with scripted(timeout_s=0.2) as (server, client), client.open_session() as session:
        server.breaks = {1: "silence"}
        with pytest.raises(DeadlineError, match=r"no answer from 127.0.0.1:\d+ within 0.2 s"):
            await session.begin_episode(ORIGIN)
        action = await session.begin_episode(ORIGIN)
        assert action[0] == 1
        assert server.received == [1, 1]


async def test_another_event_is_not_told_under_the_number_of_one_that_may_have_been_taken():
    async with scripted(timeout_s=0.2) as (server, client), client.open_session() as session:
        await session.begin_episode(ORIGIN)
        server.breaks = {2: "silence"}
        with pytest.raises(DeadlineError):
            await session.act(ORIGIN, 1.0)
        for other in (session.begin_episode(ORIGIN), session.act(ORIGIN, 2.0), session.act((1.0, 0.0), 1.0)):
            with pytest.raises(SessionError, match="event 2 was told and is not answered yet; tell the very same"):
                await other
        assert (await session.act(ORIGIN, 1.0))[0] == 2
        assert (await session.act(ORIGIN, 2.0))[0] == 3


async def test_a_refused_event_leaves_the_session_and_its_stream_as_they_were():
    async with scripted() as (_, client), client.open_session() as session:
        await session.begin_episode(ORIGIN)
        stream = session._attachment._stream
        with pytest.raises(TrialOrderError, match="still under way"):
            await session.begin_episode(ORIGIN)
        assert stream is session._attachment._stream
        assert (await session.act(ORIGIN, 0.0))[0] == 2


async def test_arrays_that_the_environment_writes_into_again_do_not_change_what_a_restarted_server_is_told():
    async with scripted() as (_, client), client.open_session() as session:
        observed = np.zeros(2, np.float32)
        action = await session.begin_episode(observed)
        action *= 10.0
        observed += 1.0
        await session.act(observed, 0.0)
        observed += 1.0
        (_, began), (_, moved) = session._attachment._kept
    assert (began.observation.tolist(), moved.observation.tolist()) == ([0.0, 0.0], [1.0, 1.0])
    np.testing.assert_array_equal(moved.applied_action, [1.0, 1.0])


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (None, "reward: expected one number, got NoneType"),
        (np.ones(1), r"reward: expected one number, got shape \[1\]"),
        (float("inf"), "reward is inf; it must be a finite float32"),
        (10**400, "reward is inf; it must be a finite float32"),
    ],
)
async def test_a_reward_that_is_no_finite_number_is_refused_before_it_is_sent(reward, message):
    async with scripted() as (server, client), client.open_session() as session:
        await session.begin_episode(ORIGIN)
        with pytest.raises(SpecError, match=message):
            await session.act(ORIGIN, reward)
        assert server.received == [1]


@pytest.mark.parametrize(
    "options",
    [{"seed": seed} for seed in (-1, 2**64, 0.5, None, True)] + [{"explore_episodes": number} for number in (-1, [])],
)
async def test_a_number_that_no_session_can_run_with_is_refused_by_its_name(options):
    async with scripted() as (_, client):
        with pytest.raises(ConfigError, match=rf"{next(iter(options))}: expected a whole number from 0 to 2\^"):
            await client.open_session(**options).open()


async def test_an_observation_of_any_finite_size_is_taken_without_a_warning():
    async with scripted() as (server, client), client.open_session() as session:
        await session.begin_episode((1e30, -1e30))
        assert server.received == [1]


WANTED = r"expected 2 values \(x, y\)"


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ((0.0,), rf"{WANTED}, got shape \[1\]"),
        ((0.0, float("nan")), "entry y is nan; every entry must be finite"),
        ((0.0, 10**400), rf"{WANTED}, got tuple \(0\.0, 1000"),
        ("north", f"{WANTED}, got str"),
        (["1", "2"], rf"{WANTED}, got list \['1', '2'\]"),
        (None, f"{WANTED}, got NoneType"),
        ([[1.0], [1.0, 2.0]], rf"{WANTED}, got list \[\[1\.0\], \[1\.0, 2\.0\]\]"),
        (np.zeros(2, complex), rf"{WANTED}, got shape \[2\] of complex128"),
        (np.zeros(2, "datetime64[s]"), rf"{WANTED}, got shape \[2\] of datetime64\[s\]"),
    ],
)
async def test_an_observation_that_does_not_fit_is_refused_before_it_is_sent(observation, message):
    async with scripted() as (server, client), client.open_session() as session:
        with pytest.raises(SpecError, match=f"^observation: {message}"):
            await session.begin_episode(observation)
        assert server.received == []
        await session.begin_episode(ORIGIN)
        with pytest.raises(SpecError, match=f"^observation: {message}"):
            await session.act(observation, 0.0)
        assert server.received == [1]


@pytest.mark.parametrize("name", ["leave_safe", "abandon"])
async def test_a_choice_that_is_neither_true_nor_false_is_refused_before_it_is_sent(name):
    async with scripted() as (server, client), client.open_session() as session:
        with pytest.raises(SpecError, match=f"^{name}: expected True or False, got 'no'$"):
            await session.begin_episode(ORIGIN, **{name: "no"})
        assert server.received == []


@pytest.mark.parametrize("ending", ["no", [False, True]])
@pytest.mark.parametrize("name", ["terminated", "truncated"])
async def test_an_ending_that_is_neither_true_nor_false_is_refused_before_it_is_sent(name, ending):
    async with scripted() as (server, client), client.open_session() as session:
        await session.begin_episode(ORIGIN)
        with pytest.raises(SpecError, match=f"{name}: expected True or False"):
            await session.act(ORIGIN, 0.0, **{name: np.array(ending) if isinstance(ending, list) else ending})
        assert 1 == len(server.received)


async def test_a_session_is_opened_by_awaiting_it_too():
    async with scripted() as (_, client), await client.open_session() as session:
        assert [1, 2] == await play(session, 2)


async def test_an_unreachable_server_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServerUnreachableError, match=rf"nobody answers at {target} within 0.1 s"):
            async with AsyncClient(target, connect_timeout_s=0.1):
                pass


async def test_a_server_that_stays_away_is_unreachable_in_time():
    server = Scripted()
    async with listening(server) as target:
        client = AsyncClient(target, timeout_s=0.3)
        session = await client.open_session().open()
    with pytest.raises(ServerUnreachableError, match="could not return within") as lost:
        await session.begin_episode(ORIGIN)
    assert "".join(traceback.format_exception(lost.value)).count("Traceback") == 1
    await client.close()


async def test_a_session_survives_the_restart_of_a_durable_server():
    server = Scripted()
    async with listening(server) as target:
        client = AsyncClient(target)
        session = await client.open_session().open()
        assert await play(session, 2) == [1, 2]
    async with listening(server, int(target.rpartition(":")[2])):
        assert await play(session, 3) == [3, 4, 0]
        await session.close()
        await client.close()


async def test_every_session_has_a_key_of_its_own():
    async with scripted() as (server, client):
        async with client.open_session(), client.open_session():
            pass
        assert len(set(server.keys)) == 2


async def test_another_agent_than_expected_is_told_though_the_farewell_fails(monkeypatch):
    async def close(_):
        raise ServerUnreachableError("gone")

    async with scripted() as (_, client):
        monkeypatch.setattr(AsyncSession, "close", close)
        other = BoxSpec(name="observation", labels=("y", "x"), units=("m", "m"), low=(None, None), high=(None, None))
        with pytest.raises(ContextMismatchError, match="observation"):
            await client.open_session(expected_observation=other)


async def test_an_error_inside_the_block_is_not_masked_by_the_farewell():
    async with scripted() as (server, client):
        with pytest.raises(KeyError):  # noqa: PT012
            async with client.open_session() as session:
                await session.begin_episode(ORIGIN)
                raise KeyError
        assert server._held == {}


async def test_the_token_travels_as_a_bearer():
    async with scripted(token="sesame") as (server, client):  # noqa: S106
        assert await client.describe() == AGENT
        assert server.metadata[0]["authorization"] == "Bearer sesame"


async def test_stateless_calls_need_no_session():
    async with scripted() as (_, client):
        step = EncodedTransition(np.zeros(2, np.float32), np.ones(2, np.float32), 2.0, np.ones(2, np.float32))
        encoded = await client.encode([step, step])
        assert encoded.context.belief[0] == 4.0
        acted = await client.act(encoded.context, (0.5, 0.25))
        assert acted.action.tolist() == [0.5, 0.25]


TRANSITION = EncodedTransition(np.zeros(2), np.ones(2), 2.0, np.ones(2))
TEXT = "expected a text of one line"
SPEC = "expected a BoxSpec, such as session.agent.observation, or None; got"
STATELESS = [
    ("act", (None, ORIGIN), {"phase": "foo"}, "phase: expected Phase.EXPLORE or Phase.EXECUTE, got 'foo'"),
    ("act", (None, ORIGIN), {"phase": []}, r"phase: expected Phase.EXPLORE or Phase.EXECUTE, got \[\]"),
    ("act", (None, None), {}, "observation: expected a vector of numbers, got NoneType"),
    ("act", (None, ORIGIN), {"noise": "white"}, "noise: expected a vector of numbers, got str"),
    ("act", (None, ORIGIN), {"previous_action": None}, "previous_action: expected a vector of numbers, got NoneType"),
    ("act", ("known", ORIGIN), {}, "context: expected the Context of encode.*, or None; got str"),
    ("act", (Context("ab", "no"), ORIGIN), {}, "context.belief: expected a vector of numbers, got str"),
    ("act", (Context(5, [0.0]), ORIGIN), {}, f"context.bundle_digest: {TEXT}, got 5"),
    ("act", (None, ORIGIN), {"agent": 5}, f"agent: {TEXT}, got 5"),
    ("encode", ([1, 2],), {}, "transition 0: expected an EncodedTransition.*, got int"),
    ("encode", (5,), {}, "transitions: expected a list of EncodedTransition, got int"),
    ("encode", (TRANSITION,), {}, "transitions: expected a list of EncodedTransition, got EncodedTransition"),
    ("encode", ([TRANSITION, replace(TRANSITION, action="up")],), {}, "transition 1: action: expected a vector of num"),
    ("encode", ([replace(TRANSITION, reward=None)],), {}, "transition 0: reward: expected one number, got NoneType"),
    ("encode", ([], np.zeros(3)), {}, "context: expected the Context of encode.*, or None; got ndarray"),
    ("describe", (5,), {}, f"agent: {TEXT}, got 5"),
    ("describe", ("\udcff",), {}, f"agent: {TEXT}, got"),
    ("open_session", (), {"context": {}}, "context: expected the Context of encode.*, or None; got dict"),
    ("open_session", (), {"stochastic": "yes"}, "stochastic: expected True or False, got 'yes'"),
    ("open_session", (), {"re_explore": "yes"}, "re_explore: expected True or False, got 'yes'"),
    ("open_session", (), {"agent": ["a"]}, rf"agent: {TEXT}, got \['a'\]"),
    ("open_session", (), {"expected_family": 5}, f"expected_family: {TEXT}, got 5"),
    ("open_session", (), {"expected_bundle_digest": 5}, f"expected_bundle_digest: {TEXT}, got 5"),
    ("open_session", (), {"expected_observation": ["x", "y"]}, f"expected_observation: {SPEC} list"),
    ("open_session", (), {"expected_action": 2}, f"expected_action: {SPEC} int"),
    (
        "resume_session",
        ("path",),
        {},
        r"ticket: expected session.ticket, or Ticket.load\(path\) of a saved one; got str",
    ),
    ("resume_session", (None,), {}, "ticket: expected session.ticket.*; got NoneType"),
    ("resume_session", (Ticket(1, "a"),), {}, f"ticket.session_id: {TEXT}, got 1"),
    ("resume_session", (Ticket("a", 7),), {}, "ticket.token: expected a text, got int"),
    ("resume_session", (Ticket("a", "b"),), {"expected_action": [2]}, f"expected_action: {SPEC} list"),
]


@pytest.mark.parametrize(("call", "arguments", "options", "message"), STATELESS)
async def test_what_cannot_be_is_refused_by_its_name_before_it_is_sent(call, arguments, options, message):
    async with scripted() as (server, client):
        with pytest.raises((ConfigError, SpecError), match=f"^{message}"):
            await getattr(client, call)(*arguments, **options)
        assert ([], []) == (server.metadata, server.keys)


async def test_what_says_the_same_in_other_types_is_taken():
    async with scripted() as (_, client):
        listed = EncodedTransition([0, 0], (1.0, 1.0), np.float64(2.0), np.ones((1, 2)))
        first, second = [(await client.encode(given)).context for given in ([TRANSITION], iter([listed]))]
        np.testing.assert_array_equal(first.belief, second.belief)
        kept = replace(first, belief=first.belief.tolist())
        assert [0.5, 0.25] == (await client.act(kept, [0.5, 0.25], phase="explore")).action.tolist()


async def test_many_sessions_run_at_once():
    async with scripted() as (_, client):

        async def trial():
            async with client.open_session() as session:
                return await play(session, 6)

        assert await asyncio.gather(*(trial() for _ in range(16))) == [[1, 2, 3, 4, 0, 6]] * 16


async def test_calls_that_race_share_one_connection():
    server = Scripted()
    async with listening(server) as target:
        client = AsyncClient(target)
        agents = await asyncio.gather(*(client.describe() for _ in range(4)))
        await client.close()
    assert agents == [AGENT] * 4
    assert len({metadata["peer"] for metadata in server.metadata}) == 1


@pytest.fixture
def mute():
    """The address of somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "{}:{}".format(*listener.getsockname())


async def test_calls_that_race_for_a_server_that_does_not_answer_fail_in_the_time_of_one(mute):
    client = AsyncClient(mute, connect_timeout_s=0.5)
    async with asyncio.timeout(4.0):
        for failed in await asyncio.gather(*(client.describe() for _ in range(16)), return_exceptions=True):
            with pytest.raises(ServerUnreachableError, match="nobody answers"):
                raise failed


async def test_a_client_that_is_closed_while_it_connects_fails_its_calls_at_once_and_connects_no_more(mute):
    client = AsyncClient(mute, connect_timeout_s=60.0)
    calls = [asyncio.create_task(client.describe()) for _ in range(2)]
    while client._connection._channel is None:
        await asyncio.sleep(0.01)
    await client.close()
    async with asyncio.timeout(10.0):
        for call in calls:
            with pytest.raises(ServerError, match="the client was closed"):
                await call
    assert client._connection._channel is None


async def test_calls_of_one_session_that_race_take_turns():
    async with scripted() as (server, client), client.open_session() as session:
        await session.begin_episode(ORIGIN)
        actions = await asyncio.gather(*(session.act(ORIGIN, reward) for reward in (1.0, 2.0, 3.0)))
        assert [2, 3, 4] == [int(action[0]) for action in actions]
        assert [1, 2, 3, 4] == server.received


async def test_a_session_that_is_closed_in_mid_step_is_closed_after_the_answer():
    async with scripted() as (server, client):
        session = await client.open_session()
        await session.begin_episode(ORIGIN)
        action, closed, *_ = await asyncio.gather(session.act(ORIGIN, 1.0), *(session.close() for _ in range(3)))
        assert (2, (1.0,)) == (int(action[0]), closed.returns)
        assert [1, 2] == server.received


async def test_a_proxy_for_other_machines_does_not_stand_before_this_one(monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with scripted(connect_timeout_s=5.0) as (_, client):
        assert await client.describe() == AGENT


async def test_what_is_under_way_when_a_client_is_closed_fails_at_once_and_connects_no_more():
    async with scripted() as (server, client):
        session = await client.open_session().open()
        server.breaks = {1: "silence"}
        told = asyncio.create_task(session.begin_episode(ORIGIN))
        while not server.received:
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(ServerError, match="the client was closed"):
            await told
        assert client._connection._channel is None


async def test_a_call_that_is_cancelled_is_cancelled_and_no_error():
    async with scripted() as (server, client), client.open_session() as session:
        server.breaks = {1: "silence"}
        told = asyncio.create_task(session.begin_episode(ORIGIN))
        while not server.received:
            await asyncio.sleep(0.01)
        told.cancel()
        with pytest.raises(asyncio.CancelledError):
            await told


async def test_a_closed_asyncio_client_says_so_connects_no_more_and_may_be_closed_again():
    async with scripted() as (_, client):
        session = await client.open_session()
        await session.begin_episode(ORIGIN)
        await asyncio.gather(client.close(), client.close())
        for call in (
            client.describe(),
            client.agents(),
            client.act(None, ORIGIN),
            client.open_session().open(),
            client.resume_session(session.ticket).open(),
            client.__aenter__(),
            session.act(ORIGIN, 1.0),
            session.close(),
        ):
            with pytest.raises(ServerError, match=r"^the client is closed; make a new one$"):
                await call
        assert client._connection._channel is None


async def test_a_client_that_is_closed_before_it_connected_says_so_too():
    client = AsyncClient("127.0.0.1:1", connect_timeout_s=0.1)
    await client.close()
    with pytest.raises(ServerError, match="the client is closed"):
        await client.describe()


@pytest.fixture
def server():
    return Scripted()


@pytest.fixture
def target(server):
    """A scripted server on a thread of its own."""
    found, ready, stop = [], threading.Event(), asyncio.Event()

    async def run():
        async with listening(server) as address:
            found.append((address, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    address, loop = found[0]
    yield address
    loop.call_soon_threadsafe(stop.set)
    thread.join()


def test_the_blocking_client_fits_on_a_page(target):
    with Client(target) as client, client.open_session(seed=7) as session:
        action = session.begin_episode(ORIGIN)
        steps = 0
        while not session.episode_over:
            assert steps + 1 == action[0]
            action = session.act(ORIGIN, 1.0, terminated=steps == 2, truncated=False)
            steps += 1
        assert action is None
        assert session.returns == (3.0,)
        assert AGENT == session.agent == client.describe()


def test_the_blocking_client_shares_its_errors_and_stateless_calls(target):
    with Client(target) as client:
        assert client.act(None, (0.5, 0.5)).action.tolist() == [0.5, 0.5]
        assert client.encode([]).context.belief[0] == 0.0
        with client.open_session() as session, pytest.raises(TrialOrderError):
            session.act(ORIGIN, 0.0)


def client_threads():
    """Threads of blocking clients; gRPC's own come and go with whatever of it is alive in the process."""
    return [thread for thread in threading.enumerate() if thread.name == "ccm-client"]


@pytest.mark.parametrize(("call", "arguments", "options", "message"), STATELESS)
def test_the_blocking_client_refuses_what_cannot_be_too(target, call, arguments, options, message):
    with Client(target) as client, pytest.raises((ConfigError, SpecError), match=f"^{message}"):
        getattr(client, call)(*arguments, **options)


def test_a_blocking_client_leaves_no_thread_behind(target):
    with Client(target) as client:
        client.describe()
        assert len(client_threads()) == 1
    assert client_threads() == []


def test_a_blocking_client_that_cannot_connect_leaves_no_thread_behind():
    with pytest.raises(ServerUnreachableError), Client("127.0.0.1:1", connect_timeout_s=0.1):
        pass
    assert client_threads() == []


def test_a_failed_call_keeps_no_client_alive():
    client = Client("127.0.0.1:1", connect_timeout_s=0.1)
    alive = weakref.ref(client)
    gc.disable()  # what only the collector finds would hold gRPC's thread and sockets until it comes
    try:
        with pytest.raises(ServerUnreachableError):
            client.describe()
        client.close()
        del client
        assert alive() is None
    finally:
        gc.enable()


def test_a_thread_that_waits_for_an_answer_learns_that_another_closed_the_client(server, target):
    failed = []

    def wait(session):
        with pytest.raises(ServerError, match="the client was closed"):
            session.begin_episode(ORIGIN)
        failed.append(True)

    server.breaks = {1: "silence"}
    client = Client(target)
    waiting = threading.Thread(target=wait, args=(client.open_session(),), daemon=True)
    waiting.start()
    while not server.received:
        waiting.join(0.01)
    client.close()
    waiting.join(10)
    assert [True] == failed
    assert [] == client_threads()


def test_an_error_is_not_masked_by_the_farewell_of_a_client_that_is_closed(target):
    def fail(client):
        with client.open_session() as session, Pilot(session):
            client.close()
            raise KeyError("the robot")

    with pytest.raises(KeyError, match="the robot"):
        fail(Client(target))


def test_transitions_are_read_and_written_by_the_thread_that_hands_them_over(target, monkeypatch):
    """Reading a log may take long, and so does writing 10,000 of them: other threads' robots do not wait for it."""
    readers, writers, write = [], [], wire.encode_request

    def written(*given):
        writers.append(threading.current_thread())
        return write(*given)

    def transitions():
        readers.append(threading.current_thread())
        yield EncodedTransition(ORIGIN, ORIGIN, 3.0, ORIGIN)

    monkeypatch.setattr(wire, "encode_request", written)
    with Client(target) as client:
        assert 3.0 == client.encode(transitions()).context.belief[0]
    assert [threading.current_thread()] == readers == writers


def test_a_client_that_a_forked_process_inherits_says_so_and_keeps_nobody_waiting(target):
    program = (
        "import os, signal, sys\n"
        "from ccm_runtime.client import Client\n"
        "from ccm_runtime.errors import ServerError\n"
        "with Client(sys.argv[1]) as client:\n"
        "    client.describe()\n"
        "    if child := os.fork():\n"
        "        os.waitpid(child, 0)\n"
        "    else:\n"
        "        signal.alarm(30)\n"
        "        try:\n"
        "            client.describe()\n"
        "        except ServerError as error:\n"
        "            print(error, flush=True)\n"
        "        client.close()\n"
        "        os._exit(0)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, target]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.startswith("the client belongs to the process that made it")


class Line:
    """An environment that goes on for ever, with a reward of 1 a step."""

    action_space = SimpleNamespace(shape=(2,))

    def reset(self, **_):
        return ORIGIN, {}

    def step(self, _):
        return ORIGIN, 1.0, False, False, {}


def test_an_episode_that_ends_in_a_silence_has_its_return(server, target):
    server.breaks = {5: "silence"}
    with Client(target) as client, client.open_session() as session, Pilot(session) as pilot:
        assert [4.0] == drive(Line(), pilot, episodes=1)


def test_a_signal_may_close_a_client_in_the_middle_of_a_call(target, monkeypatch):
    client, submit = Client(target), asyncio.run_coroutine_threadsafe

    def interrupted(*call):
        monkeypatch.undo()
        client.close()  # its handler runs on the thread that makes the call
        return submit(*call)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(ServerError, match="the client is closed"):
        client.describe()
    assert [] == client_threads()


def test_a_client_of_another_event_loop_says_so(target):
    client = AsyncClient(target)
    assert AGENT == asyncio.run(client.describe())
    with pytest.raises(
        ServerError, match="the client belongs to the event loop that it connected in; make one in each"
    ):
        asyncio.run(client.describe())
    asyncio.run(client.close())


def test_a_closed_client_says_so_and_may_be_closed_again(target):
    with Client(target) as client:
        session = client.open_session()
        session.begin_episode(ORIGIN)
    client.close()
    for call in (
        client.describe,
        client.__enter__,
        client.open_session,
        lambda: client.resume_session(session.ticket),
        lambda: session.act(ORIGIN, 1.0),
        session.close,
    ):
        with pytest.raises(ServerError, match=r"^the client is closed; make a new one$"):
            call()
