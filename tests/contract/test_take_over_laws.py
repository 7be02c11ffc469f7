"""Laws of a session whose client was started again: it goes on where it is, once, and with one client at a time."""

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import asdict, replace

import grpc
import pytest
from durable import AGENT, DIGEST, HORIZON, event, image, model
from replicas import Replica

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.client import Client
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import (
    ContextMismatchError,
    SessionError,
    SessionTakenError,
    SessionUnknownError,
    SpecError,
    TrialOrderError,
)
from ccm_runtime.hosting import ServedAgent
from ccm_runtime.messages import BeginEpisode, SessionClosed, SessionOptions
from ccm_runtime.pilot import AsyncPilot
from ccm_runtime.server import Server
from ccm_runtime.testing import ScriptedPolicy, box, manifest_of, serve
from ccm_runtime.ticket import Ticket
from ccm_runtime.trial import Phase
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

LIMIT_S = 20.0
WHOLE = 4 * (HORIZON + 1)


@asynccontextmanager
async def running(agent=AGENT, digest=DIGEST, **settings):
    """A server, and a client of it."""
    config = ServerConfig(**{"port": 0, "log_level": "error", **settings})
    server = Server(ServedAgent(agent, manifest_of(agent), digest), config)
    port = await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{port}", timeout_s=LIMIT_S) as client:
            yield server, client
    finally:
        await server.stop()


async def tell(session, index, sequence):
    """Event `sequence` of the model; its action."""
    told = event(index, sequence)
    if isinstance(told, BeginEpisode):
        return await session.begin_episode(told.observation)
    return await session.act(told.observation, told.reward, truncated=told.truncated)


async def go_on(session, index, until):
    """Tell the events up to `until` from wherever the session is, and hold every answer against the model."""
    first = 1 if session.answer is None else session.answer.sequence + 1
    for sequence in range(first, until + 1):
        await tell(session, index, sequence)
        assert sequence == session.answer.sequence
        assert image(model(index).after(sequence)[1]) == image(session.answer.reaction)


def is_model(session, index, sequence):
    """Whether a session is where the model is after an event."""
    memory, reaction = model(index).after(sequence)
    assert memory.trial.phase is session.phase
    assert memory.returns == session.returns
    assert (sequence == 0 or not memory.trial.in_episode) == session.episode_over
    assert image(None if reaction is None else reaction.action) == image(session.action)
    return image(reaction) == image(None if session.answer is None else session.answer.reaction)


async def test_a_session_goes_on_in_another_process_from_every_event_as_if_unbroken():
    async with running() as (server, client):
        address = f"127.0.0.1:{server.port}"
        ticket = (await client.open_session(seed=3, stochastic=True).open()).ticket
        for sequence in range(WHOLE + 1):
            async with AsyncClient(address) as another:
                session = await another.resume_session(ticket).open()
                assert is_model(session, 3, sequence)
                assert ticket == session.ticket
                if sequence < WHOLE:
                    await go_on(session, 3, sequence + 1)
        session = await client.resume_session(ticket)
        closed = await session.close()
        memory = model(3).after(WHOLE)[0]
        assert image(memory.belief) == image(closed.context.belief)
        assert memory.returns == session.returns


async def test_a_session_with_episodes_of_its_own_number_says_its_phase_before_its_first_event():
    async with running() as (_, client):
        opened = await client.open_session(explore_episodes=0).open()
        resumed = await client.resume_session(opened.ticket).open()
        assert (Phase.EXECUTE, None, True) == (resumed.phase, resumed.answer, resumed.episode_over)


async def test_in_mid_episode_the_next_one_is_not_begun_in_silence_and_may_be_abandoned_for():
    async with running() as (_, client):
        first = await client.open_session(seed=3, stochastic=True).open()
        await go_on(first, 3, HORIZON + 4)
        async with client.resume_session(first.ticket) as session:
            with pytest.raises(TrialOrderError, match=r"still under way after 2 steps; .* or abandon it"):
                await session.begin_episode((0.0, 0.0))
            certainty, returns = session.certainty, session.returns
            assert (await session.begin_episode((0.0, 0.0), abandon=True)).any()
            assert (1, 0, Phase.EXPLORE) == (session.episode, session.answer.reaction.step, session.phase)
            assert certainty == session.certainty
            for _ in range(HORIZON):
                await session.act((0.0, 0.0), 1.0)
            assert (*returns, float(HORIZON)) == session.returns
            assert (2, Phase.EXECUTE) == (session.episode, session.phase)
            assert session.returns == (await session.close()).returns


async def test_a_pilot_goes_on_with_no_episode_that_is_not_its_own():
    async with running() as (_, client):
        first = await client.open_session().open()
        await first.begin_episode((0.0, 0.0))
        async with client.resume_session(first.ticket) as session, AsyncPilot(session) as pilot:
            with pytest.raises(TrialOrderError, match="begin one"):
                await pilot.act((0.0, 0.0), 0.0)
            await pilot.begin_episode((0.0, 0.0), abandon=True)
            await pilot.act((0.0, 0.0), 0.0)


async def test_who_had_the_session_can_neither_drive_nor_close_nor_win_it_back():
    async with running() as (_, client):
        first = await client.open_session(seed=3, stochastic=True).open()
        await go_on(first, 3, 3)
        second = await client.resume_session(first.ticket).open()
        for _ in range(2):  # over its old stream, and over a new one
            with pytest.raises(SessionTakenError, match="another client has taken"):
                await tell(first, 3, 4)
        await go_on(second, 3, 4)
        with pytest.raises(SessionTakenError):
            await tell(first, 3, 4)  # this number is answered again, but not to a stranger
        assert () == (await first.close()).returns
        third = await client.resume_session(second.ticket).open()
        with pytest.raises(SessionTakenError):
            await tell(second, 3, 5)
        await go_on(third, 3, WHOLE)
        assert image(model(3).after(WHOLE)[0].belief) == image((await third.close()).context.belief)


async def test_who_had_the_session_can_neither_drive_nor_close_it_by_calls_without_a_stream():
    async with running() as (server, client), grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        calls = Replica(channel)
        opened = await calls.open(3)
        await calls.tell(opened, 3, 1)
        session = await client.resume_session(Ticket(opened.session_id, opened.token)).open()
        await go_on(session, 3, 3)
        held = server.hosting.table.find(opened.session_id)
        for sequence in (3, 4):  # the last event, which is answered again, and the next one
            with pytest.raises(SessionTakenError, match="another client has taken"):
                await calls.tell(opened, 3, sequence)
        with pytest.raises(SessionTakenError):
            await calls.close(opened)
        with pytest.raises(SessionUnknownError):  # who has another token is told nothing
            await calls.close(pb.OpenSessionResponse(session_id=opened.session_id, token="0" * 64))
        assert held is server.hosting.table.find(opened.session_id)
        await calls.tell(opened, 3, 4, client=session._attachment.client)
        assert model(3).after(4)[0].returns == (await calls.close(opened, client=session._attachment.client)).returns


async def test_a_session_that_is_taken_over_while_who_had_it_closes_it_stays_open():
    async with running() as (_, client):
        first = await client.open_session(seed=3, stochastic=True).open()
        second = client.resume_session(first.ticket)

        async def overtaken():
            await second.open()
            raise SessionUnknownError("its stream could not close it")

        async def alone():
            raise SessionUnknownError("its stream could not close it")

        first._close_once, second._close_once = overtaken, alone
        assert SessionClosed() == await first.close()
        await go_on(second, 3, WHOLE)
        assert image(model(3).after(WHOLE)[0].belief) == image((await second.close()).context.belief)


async def test_who_took_the_session_over_comes_back_after_a_lost_connection():
    async with running() as (_, client):
        first = await client.open_session(seed=3, stochastic=True).open()
        await go_on(first, 3, 3)
        second = await client.resume_session(first.ticket).open()
        for sequence in (4, 5, 8, WHOLE):
            second._attachment.drop()
            await go_on(second, 3, sequence)


class Gated(ScriptedPolicy):
    """Acts while its gate is open, and otherwise stalls until it is."""

    def __init__(self):
        super().__init__(AGENT.adaptation)
        object.__setattr__(self, "gate", threading.Event())
        object.__setattr__(self, "waits", threading.Event())
        self.gate.set()

    def fold(self, belief, transitions):
        if not self.gate.is_set():
            self.waits.set()
        assert self.gate.wait(LIMIT_S)
        return super().fold(belief, transitions)


@pytest.mark.parametrize("sharing_room", [False, True])
async def test_an_event_that_is_under_way_is_taken_first_and_answered_to_whoever_takes_over(sharing_room):
    agent = Gated()
    async with running(agent, action_deadline_ms=10_000.0) as (_, client):
        if sharing_room:  # then events wait for each other's
            await client.open_session().open()
        first = await client.open_session(seed=3, stochastic=True).open()
        await go_on(first, 3, 3)
        agent.gate.clear()
        telling = asyncio.create_task(tell(first, 3, 4))
        assert await asyncio.to_thread(agent.waits.wait, LIMIT_S)
        telling.cancel()  # its process was killed
        taking = asyncio.create_task(client.resume_session(first.ticket).open())
        await asyncio.sleep(0.1)
        assert not taking.done()
        agent.gate.set()
        second = await taking
        assert is_model(second, 3, 4)
        await go_on(second, 3, WHOLE)


async def test_after_a_restart_of_the_server_it_is_still_of_whoever_took_it_over(tmp_path):
    store = {"store": tmp_path / "s.db", "store_commit_ms": 60_000}  # nothing is written but before it is promised
    async with running(**store) as (server, client):
        first = await client.open_session(seed=3, stochastic=True).open()
        await go_on(first, 3, 3)
        second = await client.resume_session(first.ticket).open()
        assert 3 == server.hosting.group_commit.durable_sequence(second.session_id)
        port = server.port
        server.hosting._store.close()  # as a crash: nothing more is written
        async with running(**{**store, "port": 0}) as (restarted, anew):
            for session in (first, second):
                session._connection = session._attachment._connection = anew._connection
                session._attachment.drop()
            assert port != restarted.port
            with pytest.raises(SessionTakenError):
                await tell(first, 3, 4)
            await go_on(second, 3, WHOLE)


async def test_what_cannot_be_resumed_says_why(tmp_path):
    store = {"store": tmp_path / "s.db"}
    async with running(**store) as (server, client):
        session = await client.open_session(seed=3).open()
        ticket = session.ticket
        for wrong in (replace(ticket, token="0" * 64), replace(ticket, session_id="0" * 16)):
            with pytest.raises(SessionUnknownError, match=r"no such session: .* or the token is another session's"):
                await client.resume_session(wrong).open()
        other = box("observation", 2).model_copy(update={"units": ("km", "km")})
        for expected, message in (
            ({"expected_bundle_digest": "ab" * 32}, "expects the bundle abab"),
            ({"expected_family": "arms"}, "expects the task family arms"),
            ({"expected_observation": other}, "observations with the units"),
        ):
            with pytest.raises(ContextMismatchError, match=message):
                await client.resume_session(ticket, **expected).open()
        async with client.resume_session(ticket, expected_bundle_digest=DIGEST, expected_family="scripted"):
            pass  # it has outlived every refusal, and is closed now
        with pytest.raises(SessionUnknownError, match="the session was closed; open a new one"):
            await client.resume_session(ticket).open()
        with pytest.raises(SpecError, match=r"client: expected a name of 1 to 128 characters, .* got 129"):
            await server.hosting.take_over(ticket.session_id, ticket.token, "c" * 129)
        resting = (await client.open_session(seed=3).open()).ticket
    async with running(digest="ab" * 32, **store) as (_, client):
        with pytest.raises(ContextMismatchError, match=f"goes on with bundle {DIGEST[:12]} alone"):
            await client.resume_session(resting).open()
        with pytest.raises(SessionUnknownError, match="no such session"):
            await client.resume_session(replace(resting, token="0" * 64)).open()
    async with running(**store) as (_, client):
        assert (await client.resume_session(resting).open()).answer is None


async def test_a_session_that_was_idle_for_too_long_is_unknown():
    async with running() as (server, client):
        ticket = (await client.open_session().open()).ticket
        server.hosting.table.idle_limit_s = -1.0
        with pytest.raises(SessionUnknownError, match="was idle for longer"):
            await client.resume_session(ticket).open()


async def test_a_key_does_not_give_back_what_another_client_took_over():
    async with running() as (server, _):
        opened = await server.hosting.open(SessionOptions(idempotency_key="key"))
        taken = await server.hosting.take_over(opened.session_id, opened.token, "me")
        again = await server.hosting.open(SessionOptions(idempotency_key="key"))
        assert (opened.session_id, "me", "") == (again.session_id, taken.client, again.client)
        with pytest.raises(SessionTakenError):
            server.hosting.resume(opened.session_id, opened.token)
        assert server.hosting.resume(opened.session_id, opened.token, "me").standing is None


async def test_who_takes_over_without_a_name_is_refused_as_that_is_the_openers():
    async with running() as (server, client):
        session = await client.open_session(seed=3, stochastic=True).open()
        await go_on(session, 3, 2)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stream = AdaptationStub(channel).Session(timeout=LIMIT_S)
            ticket = session.ticket
            nameless = pb.ResumeSession(session_id=ticket.session_id, token=ticket.token, take_over=True)
            await stream.write(pb.SessionRequest(resume=nameless))
            with pytest.raises(grpc.RpcError) as error:
                await stream.read()
        assert grpc.StatusCode.INVALID_ARGUMENT is error.value.code()
        assert "client: expected a name of 1 to 128 characters" in error.value.details()
        await go_on(session, 3, 3)


async def test_a_session_is_taken_over_at_another_server(shared):
    store = {"store": shared.url, "store_commit_ms": 60_000}
    async with running(**store) as (here, client), running(**store) as (there, other):
        first = await client.open_session(seed=3, stochastic=True).open()
        await go_on(first, 3, 3)
        await here.hosting.group_commit.flush()
        second = await other.resume_session(first.ticket).open()
        assert is_model(second, 3, 3)
        await go_on(second, 3, 5)
        await there.hosting.group_commit.flush()
        await tell(first, 3, 4)  # the first server has not been told yet
        assert first.answer.durable_sequence <= 3
        await here.hosting.group_commit.flush()
        with pytest.raises(SessionTakenError):
            await tell(first, 3, 5)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{here.port}") as channel:
            calls, opened = Replica(channel), pb.OpenSessionResponse(**asdict(first.ticket))
            with pytest.raises(SessionTakenError):
                await calls.tell(opened, 3, 6)
            with pytest.raises(SessionTakenError):
                await calls.close(opened)
        assert () == (await first.close()).returns
        assert [False, True] == [s.hosting.table.find(second.session_id) is not None for s in (here, there)]
        await go_on(second, 3, WHOLE)
        await there.hosting.group_commit.flush()
        third = await client.resume_session(second.ticket).open()
        assert is_model(third, 3, WHOLE)
        await third.close()
        with pytest.raises(SessionUnknownError):
            await other.resume_session(second.ticket).open()


def test_the_blocking_client_takes_over_too(tmp_path):
    with serve(AGENT) as address:
        with Client(address) as client:
            session = client.open_session(seed=3, stochastic=True)
            begun = session.begin_episode(event(3, 1).observation)
            ticket = session.ticket
            assert ticket.token not in repr((session, ticket))
        with Client(address) as client, client.resume_session(ticket) as session:
            assert image(begun) == image(session.action)
            for sequence in range(2, HORIZON + 2):
                told = event(3, sequence)
                session.act(told.observation, told.reward, truncated=told.truncated)
                assert image(model(3).after(sequence)[1]) == image(session.answer.reaction)
            assert session.action is None
            session.begin_episode((0.0, 0.0))
            session.begin_episode((0.0, 0.0), abandon=True)
            with pytest.raises(SessionError):
                client.resume_session(replace(ticket, session_id="x"))
