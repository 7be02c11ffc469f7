"""Laws of servers on one store: what their clients see when they go from one to the other."""

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from durable import AGENT, DIGEST, event, image, model
from redis_server import redis_server
from replicas import NOT_SERVING, SERVING, Replica

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import (
    ConfigError,
    ServerUnreachableError,
    SessionLimitError,
    SessionUnknownError,
    StepGapError,
    StoreUnavailableError,
)
from ccm_runtime.hosting import ServedAgent
from ccm_runtime.redis_store import PREFIX
from ccm_runtime.server import Server
from ccm_runtime.testing import manifest_of
from ccm_runtime.v1 import adaptation_pb2 as pb


class Local(Replica):
    """A server in this process."""

    def __init__(self, server, channel):
        super().__init__(channel)
        self.server, self.hosting = server, server.hosting

    async def flush(self):
        await self.hosting.group_commit.flush()

    def holds(self, opened):
        return self.hosting.table.find(opened.session_id) is not None


@asynccontextmanager
async def replicas(url, number=2, digests=(DIGEST, DIGEST), **settings):
    """Servers on one store; nothing is written but by a flush, unless a test says so."""
    config = ServerConfig(**{"port": 0, "log_level": "error", "store": url, "store_commit_ms": 60_000, **settings})
    async with AsyncExitStack() as stack:
        made = []
        for digest in digests[:number]:
            server = Server(ServedAgent(AGENT, manifest_of(AGENT), digest), config)
            port = await server.start()
            stack.push_async_callback(server.stop)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            made.append(Local(server, channel))
        yield made


async def test_a_session_goes_on_at_another_server_and_the_first_lets_it_go(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(3)
        async with first.resumed(opened) as (_, tell):
            for sequence in (1, 2, 3):
                await tell(3, sequence)
            await first.flush()
            async with second.resumed(opened) as (again, go_on):
                assert 4 == again.next_sequence
                for sequence in range(4, 9):
                    await go_on(3, sequence)
            late = await tell(3, 4)  # the first server has not been told yet
            assert 3 == late.durable_sequence
            await first.flush()
            assert not first.holds(opened)
            with pytest.raises(ServerUnreachableError, match="resume it"):
                await tell(3, 5)
        await second.flush()
        async with first.resumed(opened) as (back, _):
            assert 9 == back.next_sequence


async def test_a_server_forgets_all_of_a_session_that_went_elsewhere_before_it_was_idle_here(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(3)
        await first.tell(opened, 3, 1)
        await first.flush()
        assert 1 == first.hosting.group_commit.durable_sequence(opened.session_id)
        await second.tell(opened, 3, 2)
        first.hosting.table.idle_limit_s = -1.0
        assert 1 == first.hosting.table.expire()
        await first.flush()
        assert 0 == first.hosting.group_commit.durable_sequence(opened.session_id)


async def test_a_server_forgets_all_of_a_session_that_was_closed_elsewhere(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(3)
        await first.tell(opened, 3, 1)
        await first.flush()
        await second.tell(opened, 3, 2)
        await second.close(opened)
        with pytest.raises(SessionUnknownError):
            await first.tell(opened, 3, 9)
        assert not first.holds(opened)
        assert 0 == first.hosting.group_commit.durable_sequence(opened.session_id)


async def test_an_event_alone_finds_its_session_wherever_it_is(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(0)
        await first.tell(opened, 0, 1)
        await first.flush()
        await second.tell(opened, 0, 2)
        await second.tell(opened, 0, 3)
        await second.flush()
        await first.tell(opened, 0, 4)  # which it holds, but an older one
        assert first.holds(opened)
        with pytest.raises(StepGapError) as gap:
            await first.tell(opened, 0, 9)
        assert 5 == gap.value.expected


async def test_a_key_opens_one_session_at_all_servers_also_at_once(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(0)
        await first.tell(opened, 0, 1)
        await first.flush()
        again = await second.open(0)
        assert (opened.session_id, opened.token, 2) == (again.session_id, again.token, again.next_sequence)
        at_once = await asyncio.gather(first.open(1), second.open(1), first.open(1), return_exceptions=True)
        names = {one.session_id for one in at_once if not isinstance(one, Exception)}
        assert 1 == len(names)
        assert all(isinstance(one, ServerUnreachableError) for one in at_once if isinstance(one, Exception))


async def test_a_client_that_has_both_addresses_goes_on_at_the_other_server_and_asks_no_proxy(shared, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with replicas(shared.url) as (first, second):
        both = f"ipv4:127.0.0.1:{first.server.port},127.0.0.1:{second.server.port}"
        async with AsyncClient(both) as client, client.open_session(seed=4, stochastic=True) as session:
            for sequence in range(1, 9):
                told = event(4, sequence)
                if sequence % 6 == 1:
                    action = await session.begin_episode(told.observation)
                else:
                    action = await session.act(told.observation, told.reward, truncated=told.truncated)
                assert image(model(4).after(sequence)[1].action) == image(action)
                if sequence == 4:
                    await first.server.stop()
            assert second.hosting.table.find(session.session_id) is not None


async def test_while_a_server_drains_episodes_end_there_and_the_next_ones_begin_at_another_at_once(shared):
    async with replicas(shared.url, store_commit_ms=1.0, drain_s=60.0) as (first, second):
        here, both = f"127.0.0.1:{first.server.port}", f"127.0.0.1:{second.server.port}"
        at_rest, under_way = (0.0, 0.0), []
        async with AsyncClient(here) as one, AsyncClient(f"ipv4:{here},{both}", timeout_s=20.0) as other:
            for client in (one, other):
                under_way.append(await client.open_session().open())
                await under_way[-1].begin_episode(at_rest)
            staying, going = under_way
            draining = asyncio.create_task(first.server.drain())
            await asyncio.sleep(0)
            assert await going.act(at_rest, 0.0, terminated=True) is None
            assert await staying.act(at_rest, 0.0) is not None
            await going.begin_episode(at_rest)
            assert second.hosting.table.find(going.session_id) is not None
            assert not draining.done()
            assert await staying.act(at_rest, 0.0, terminated=True) is None
            assert await draining


async def test_a_key_may_be_used_anew_at_any_server_as_soon_as_its_session_is_closed(shared):
    async with replicas(shared.url) as (first, second):
        for closing, opening in ((first, first), (first, second), (second, first), (second, second)):
            opened = await first.open(0)
            await first.tell(opened, 0, 1)
            await first.flush()
            await closing.close(opened)
            anew = await opening.open(0)
            assert (opened.session_id, 1) == (anew.session_id, anew.next_sequence)
            await opening.close(anew)
        opened = await first.open(0)
        await first.tell(opened, 0, 1)
        first.hosting.close(opened.session_id, opened.token)  # and nobody has been told yet
        assert 1 == (await first.open(0)).next_sequence


async def test_a_session_is_closed_wherever_its_client_is(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(0)
        for sequence in (1, 2, 3):
            await first.tell(opened, 0, sequence)
        await first.flush()
        closed = await second.close(opened)
        assert image(model(0).after(3)[0].belief) == image(closed.context.belief)
        await second.flush()
        with pytest.raises(SessionUnknownError):
            async with first.resumed(opened):
                pass
        assert not first.holds(opened)


async def test_who_has_no_right_to_a_session_does_not_move_it(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(0)
        stranger = pb.OpenSessionResponse(session_id=opened.session_id, token="0" * 64)
        with pytest.raises(SessionUnknownError):
            async with second.resumed(stranger):
                pass
        with pytest.raises(SessionUnknownError):
            await second.hosting.fetch(opened.session_id, opened.token, "another tenant")
        await first.tell(opened, 0, 1)
        await first.flush()
        assert first.holds(opened)


async def test_a_server_takes_nothing_that_it_cannot_go_on_with(shared):
    async with replicas(shared.url, digests=(DIGEST, "ab" * 32), max_sessions=1) as (first, second):
        opened = await first.open(0)
        with pytest.raises(ServerUnreachableError, match="is not served here"):
            async with second.resumed(opened):
                pass
        async with replicas(shared.url, 1, max_sessions=1) as (third,):
            await third.open(1)
            with pytest.raises(SessionLimitError):
                async with third.resumed(opened):
                    pass
            third.hosting.roster.draining = True
            with pytest.raises(ServerUnreachableError, match="shutting down"):
                async with third.resumed(opened):
                    pass
        await first.tell(opened, 0, 1)
        await first.flush()
        assert first.holds(opened)


async def test_a_crowd_that_comes_at_once_finds_no_more_room_than_there_is(shared):
    async with replicas(shared.url, max_sessions=40) as (first, second):
        opened = await asyncio.gather(*map(first.open, range(40)))
        await second.open(99)
        told = [second.tell(one, index, 1) for index, one in enumerate(opened)]
        outcomes = await asyncio.gather(*told, return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, Exception)]
        assert [1, SessionLimitError] == [len(refused), type(refused[0])]
        assert 40 == len(second.hosting.table)


async def test_a_bundle_that_is_not_loaded_is_loaded_for_its_sessions(shared):
    earlier = ServedAgent(AGENT, manifest_of(AGENT), DIGEST)
    async with replicas(shared.url, digests=(DIGEST, "ab" * 32)) as (first, second):
        second.hosting.recall.load = lambda digest: earlier if digest == DIGEST else None
        opened = await first.open(0)
        await second.tell(opened, 0, 1)


async def test_a_record_that_nobody_can_read_stays_where_it_is(shared, capfd):
    key, bad = f"{PREFIX}session:", b"CCM9 of a later version"
    async with replicas(shared.url, log_level="warning") as (first, second):
        opened = await first.open(0)
        shared.client().hset(key + opened.session_id, "record", bad)
        with pytest.raises(SessionUnknownError):
            await second.tell(opened, 0, 1)
        assert bad == shared.client().hget(key + opened.session_id, "record")
    assert "session not readable" in capfd.readouterr().err


async def test_every_server_has_the_same_secret_and_none_starts_without_it(shared):
    async with replicas(shared.url) as (first, second):
        assert first.hosting.table.token("x") == second.hosting.table.token("x")
    with pytest.raises(ConfigError, match="cannot join"):
        async with replicas("redis://127.0.0.1:1/0"):
            pass


async def test_sessions_of_a_server_that_is_gone_are_kept_for_a_day_and_what_is_closed_for_an_hour(shared):
    async with replicas(shared.url) as (first, _):
        opened = [await first.open(index) for index in range(2)]
        await first.close(opened[1])
        await first.flush()
    kept_s = [shared.client().ttl(f"{PREFIX}session:{one.session_id}") for one in opened]
    assert 86_000 < kept_s[0] <= 86_400
    assert 3_000 < kept_s[1] <= 3_600


async def test_while_the_store_is_down_sessions_go_on_and_all_is_durable_once_it_is_back(tmp_path):
    with redis_server(tmp_path / "redis") as redis:
        async with replicas(redis.url, store_commit_ms=1.0) as (first, second):
            opened = await first.open(0)
            redis.kill()
            for sequence in range(1, 9):
                await first.tell(opened, 0, sequence)
            await first.becomes(NOT_SERVING)
            with pytest.raises(StoreUnavailableError):
                await second.tell(opened, 0, 9)
            await second.becomes(NOT_SERVING)  # who holds nothing notices too
            assert 1 == (await first.open(1)).next_sequence
            redis.start()
            await first.becomes(SERVING)
            await second.becomes(SERVING)
            await second.tell(opened, 0, 9)


async def test_with_refuse_events_are_refused_while_the_store_is_down(tmp_path):
    with redis_server(tmp_path / "redis") as redis:
        async with replicas(redis.url, 1, store_commit_ms=1.0, store_failure="refuse") as (first,):
            opened = await first.open(0)
            redis.kill()
            await first.tell(opened, 0, 1)
            await first.becomes(NOT_SERVING)
            with pytest.raises(StoreUnavailableError):
                await first.tell(opened, 0, 2)
            with pytest.raises(StoreUnavailableError):
                await first.open(1)
            redis.start()
            await first.becomes(SERVING)
            await first.tell(opened, 0, 2)


async def test_a_store_that_is_silent_keeps_nobody_waiting_and_what_it_does_late_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr("ccm_runtime.redis_store._ATTEMPT_LIMIT_S", 0.1)
    with redis_server(tmp_path / "redis") as redis:
        async with replicas(redis.url, store_commit_ms=1.0) as (first, second):
            opened = await first.open(0)
            redis.signal(signal.SIGSTOP)
            await first.tell(opened, 0, 1)
            await first.becomes(NOT_SERVING)
            for sequence in range(2, 30):
                await first.tell(opened, 0, sequence)
            redis.signal(signal.SIGCONT)  # it takes all that was sent to it meanwhile, in its own order
            await first.becomes(SERVING)
            durable = (await first.tell(opened, 0, 30)).durable_sequence
            async with second.resumed(opened) as (again, _):
                assert durable < again.next_sequence


async def test_a_store_that_lost_all_is_filled_again_by_those_who_hold_sessions(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(0)
        await first.tell(opened, 0, 1)
        shared.client().flushall()
        await first.tell(opened, 0, 2)
        await first.flush()
        await second.tell(opened, 0, 3)


async def test_a_server_whose_store_went_to_others_is_not_durable_and_says_so(shared):
    async with replicas(shared.url, 1) as (first,):
        opened = await first.open(0)
        shared.client().flushall()
        async with replicas(shared.url, 1) as (_,):
            await first.tell(opened, 0, 1)
            with pytest.raises(StoreUnavailableError, match="start this server again"):
                await first.flush()
            await first.becomes(NOT_SERVING)
            assert 0 == (await first.tell(opened, 0, 2)).durable_sequence


async def test_a_bundle_that_many_sessions_come_with_is_loaded_once(shared):
    other = "0b" * 32
    async with replicas(shared.url, digests=(other, DIGEST)) as (first, second):
        opened = [await first.open(index) for index in range(5)]
        await first.flush()
        loads = []

        def load(digest):
            loads.append(digest)
            return ServedAgent(AGENT, manifest_of(AGENT), digest)

        second.hosting.recover(load)
        await asyncio.gather(*(second.tell(one, index, 1) for index, one in enumerate(opened)))
        assert all(second.holds(one) for one in opened)
    assert [other] == loads
