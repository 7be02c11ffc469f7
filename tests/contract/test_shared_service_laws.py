"""Laws of servers on one store: what their clients see when they go from one to the other."""

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from durable import AGENT, DIGEST, event, image, model
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis_server import redis_server

from ccm_runtime import statuses, wire
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
from ccm_runtime.server import DURABILITY, Server
from ccm_runtime.testing import manifest_of
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

LIMIT_S = 20.0
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Replica:
    """A server, unary calls to it, and streams."""

    def __init__(self, server, channel):
        self.server, self.hosting = server, server.hosting
        self._stub, self._health = AdaptationStub(channel), health_pb2_grpc.HealthStub(channel)

    async def open(self, index=0, **options):
        request = pb.OpenSessionRequest(seed=index, stochastic=True, idempotency_key=f"key-{index}", **options)
        return await called(self._stub.OpenSession(request, timeout=LIMIT_S))

    async def tell(self, opened, index, sequence):
        message = wire.event_to_proto(sequence, event(index, sequence))
        request = pb.StepRequest(session_id=opened.session_id, token=opened.token, event=message)
        answer = (await called(self._stub.Step(request, timeout=LIMIT_S))).answer
        assert image(model(index).after(sequence)[1]) == image(wire.answer_from_proto(answer).reaction)
        return answer

    async def close(self, opened):
        request = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token)
        return wire.closed_from_proto(await called(self._stub.CloseSession(request, timeout=LIMIT_S)))

    @asynccontextmanager
    async def resumed(self, opened):
        """A stream of a session; its `opened`, and what sends an event over it."""
        stream = self._stub.Session(timeout=LIMIT_S)

        async def exchange(request):
            await stream.write(request)
            response = await stream.read()
            if response is grpc.aio.EOF:
                raise restored(await stream.code(), await stream.details(), await stream.trailing_metadata())
            return response

        resume = pb.ResumeSession(session_id=opened.session_id, token=opened.token)
        try:
            response = await called(exchange(pb.SessionRequest(resume=resume)))
            yield (
                response.opened,
                lambda index, sequence: called(
                    exchange(pb.SessionRequest(event=wire.event_to_proto(sequence, event(index, sequence))))
                ),
            )
        finally:
            stream.cancel()

    async def durability(self):
        asked = health_pb2.HealthCheckRequest(service=DURABILITY)
        return (await self._health.Check(asked, timeout=LIMIT_S)).status

    async def becomes(self, status):
        """Wait until durability is this."""
        async with asyncio.timeout(LIMIT_S):
            while status != await self.durability():
                await asyncio.sleep(0.01)

    async def flush(self):
        await self.hosting.group_commit.flush()

    def holds(self, opened):
        return self.hosting.table.find(opened.session_id) is not None


def restored(code, details, metadata):
    return statuses.error_from_rpc(code, details, list(metadata or ()))


async def called(call):
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise restored(error.code(), error.details(), error.trailing_metadata()) from None


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
            made.append(Replica(server, channel))
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
                    answer = wire.answer_from_proto((await go_on(3, sequence)).answer)
                    assert image(model(3).after(sequence)[1]) == image(answer.reaction)
            late = await tell(3, 4)  # nobody reads this: the first server has not been told yet
            assert 3 == late.answer.durable_sequence
            await first.flush()
            assert not first.holds(opened)
            with pytest.raises(ServerUnreachableError, match="resume it"):
                await tell(3, 5)
        await second.flush()
        async with first.resumed(opened) as (back, _):
            assert 9 == back.next_sequence


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


async def test_a_key_may_be_used_anew_once_its_session_is_closed(shared):
    async with replicas(shared.url) as (first, second):
        opened = await first.open(0)
        await first.tell(opened, 0, 1)
        await first.flush()
        await second.close(opened)
        await second.flush()
        await first.flush()
        for server in (first, second):
            anew = await server.open(0)
            assert 1 == anew.next_sequence
            await server.close(anew)
            await server.flush()


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


async def test_a_bundle_that_is_not_loaded_is_loaded_for_its_sessions(shared):
    earlier = ServedAgent(AGENT, manifest_of(AGENT), DIGEST)
    async with replicas(shared.url, digests=(DIGEST, "ab" * 32)) as (first, second):
        second.hosting._load = lambda digest: earlier if digest == DIGEST else None
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
