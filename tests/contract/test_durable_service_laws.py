"""Laws of a server with a store: what its clients see over restarts, damage, and a disk that fails and mends."""

import asyncio
import os
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from types import SimpleNamespace

import grpc
import pytest
from durable import AGENT, DIGEST, event, image, model, record
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ccm_runtime import recovery, statuses, wire
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import (
    ConfigError,
    ContextMismatchError,
    SessionLimitError,
    SessionUnknownError,
    StoreUnavailableError,
)
from ccm_runtime.hosting import ServedAgent
from ccm_runtime.moment import Moment
from ccm_runtime.server import DURABILITY, SERVICE, Server
from ccm_runtime.sqlite_store import SqliteStore
from ccm_runtime.testing import manifest_of
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

LIMIT_S = 20.0
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Bench:
    """A server with a store, and unary calls to it."""

    def __init__(self, server, channel):
        self.server, self.group_commit = server, server.hosting.group_commit
        self._stub, self._health = AdaptationStub(channel), health_pb2_grpc.HealthStub(channel)

    async def open(self, index=0, **options):
        request = pb.OpenSessionRequest(seed=index, stochastic=True, idempotency_key=f"key-{index}", **options)
        return await self._called(self._stub.OpenSession(request, timeout=LIMIT_S))

    async def tell(self, opened, index, sequence):
        message = wire.event_to_proto(sequence, event(index, sequence))
        request = pb.StepRequest(session_id=opened.session_id, token=opened.token, event=message)
        return (await self._called(self._stub.Step(request, timeout=LIMIT_S))).answer

    async def close(self, opened):
        request = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token)
        return await self._called(self._stub.CloseSession(request, timeout=LIMIT_S))

    async def health(self):
        """Of the service, and of durability."""
        asked = [health_pb2.HealthCheckRequest(service=name) for name in (SERVICE, DURABILITY)]
        return [(await self._health.Check(request, timeout=LIMIT_S)).status for request in asked]

    async def becomes(self, *health):
        """Wait until the health is this."""
        async with asyncio.timeout(LIMIT_S):
            while list(health) != await self.health():
                await asyncio.sleep(0.01)

    def break_disk(self):
        """Let every use of the store fail from now on."""

        def broken(path):
            raise sqlite3.OperationalError("disk I/O error")

        store = self.server.hosting._store
        store._connect = broken
        store._connection.close()

    def mend_disk(self):
        self.server.hosting._store._connect = sqlite_connect

    async def _called(self, call):
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise statuses.error_from_rpc(error.code(), error.details(), list(error.trailing_metadata())) from None


def sqlite_connect(path):
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.db"


@asynccontextmanager
async def serving(path, digest=DIGEST, **settings):
    """A server; nothing is written but by a flush, unless a test says so."""
    config = ServerConfig(**{"port": 0, "log_level": "error", "store": path, "store_commit_ms": 60_000, **settings})
    server = Server(ServedAgent(AGENT, manifest_of(AGENT), digest), config)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Bench(server, channel)
    finally:
        await server.stop()


async def test_a_session_goes_on_after_a_restart_with_its_token_its_key_and_its_last_answer(path):
    async with serving(path) as first:
        opened = await first.open(3)
        for sequence in range(1, 5):
            before = await first.tell(opened, 3, sequence)
    async with serving(path) as second:
        again = await second.open(3)
        assert (opened.session_id, opened.token, 5) == (again.session_id, again.token, again.next_sequence)
        assert before == await second.tell(opened, 3, 4)
        for sequence in range(5, 14):
            answer = wire.answer_from_proto(await second.tell(opened, 3, sequence))
            assert image(model(3).after(sequence)[1]) == image(answer.reaction)
        closed = wire.closed_from_proto(await second.close(opened))
        assert image(model(3).after(13)[0].belief) == image(closed.context.belief)
    async with serving(path) as third:
        with pytest.raises(SessionUnknownError):
            await third.tell(opened, 3, 14)


async def test_an_opened_session_is_durable_before_its_client_hears_of_it(path):
    async with serving(path) as running:
        await running.open(0)
        running.server.hosting._store.close()  # lets the lock go
        with closing(sqlite3.connect(path)) as file:
            assert 1 == file.execute("SELECT count(*) FROM sessions").fetchone()[0]


async def test_answers_name_the_last_durable_event(path):
    async with serving(path) as running:
        opened = await running.open(0)
        assert [0, 0] == [(await running.tell(opened, 0, sequence)).durable_sequence for sequence in (1, 2)]
        await running.group_commit.flush()
        assert [2, 2] == [(await running.tell(opened, 0, sequence)).durable_sequence for sequence in (3, 4)]


async def test_without_a_store_nothing_is_called_durable(path):
    async with serving(None) as running:
        opened = await running.open(0)
        assert 0 == (await running.tell(opened, 0, 1)).durable_sequence
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await running.health()


async def test_another_bundles_sessions_rest_until_it_is_served_again(path):
    async with serving(path) as first:
        opened = await first.open(0)
        await first.tell(opened, 0, 1)
    async with serving(path, digest="ab" * 32) as other:
        with pytest.raises(SessionUnknownError):
            await other.tell(opened, 0, 2)
    async with serving(path) as back:
        assert 2 == (await back.tell(opened, 0, 2)).sequence


async def test_a_session_whose_bundle_is_loaded_later_waits_for_a_restart_and_its_client_is_told_so(path):
    async with serving(path) as first:
        opened = await first.open(0)
        await first.tell(opened, 0, 1)
    async with serving(path, digest="ab" * 32) as other:
        other.server.hosting.roster.add(ServedAgent(AGENT, manifest_of(AGENT), DIGEST))
        with pytest.raises(ContextMismatchError, match="start the server again with that bundle"):
            other.server.hosting.resume(opened.session_id, opened.token)
    async with serving(path) as back:
        assert 2 == (await back.tell(opened, 0, 2)).sequence


async def test_a_damaged_record_is_set_aside_and_harms_nobody_else(path, capfd):
    async with serving(path) as first:
        opened = [await first.open(index) for index in range(3)]
    with closing(sqlite3.connect(path)) as file, file:
        (data,) = file.execute("SELECT record FROM sessions WHERE session_id = ?", (opened[1].session_id,)).fetchone()
        bad = data[:-1] + bytes([data[-1] ^ 1])
        file.execute("UPDATE sessions SET record = ? WHERE session_id = ?", (bad, opened[1].session_id))
    async with serving(path, log_level="warning") as second:
        assert 1 == (await second.tell(opened[0], 0, 1)).sequence
        assert 1 == (await second.tell(opened[2], 2, 1)).sequence
        with pytest.raises(SessionUnknownError):
            await second.tell(opened[1], 1, 1)
    assert "session set aside" in capfd.readouterr().err
    with closing(sqlite3.connect(path)) as file:
        assert [(opened[1].session_id, bad)] == file.execute("SELECT session_id, record FROM set_aside").fetchall()


async def test_a_belief_that_this_agent_cannot_have_is_set_aside(path):
    store = SqliteStore(path)
    bad = model(0).session(2)
    bad.memory.belief[0] = float("nan")
    store.commit([record(bad), record(model(1).session(2))], [])
    store.close()
    model.cache_clear()  # its belief was spoilt
    async with serving(path) as running:
        assert 1 == len(running.server.hosting.table)


async def test_with_degrade_actions_go_on_while_the_disk_fails_and_all_is_durable_once_it_is_well(path):
    async with serving(path, store_commit_ms=1.0) as running:
        opened = await running.open(0)
        await running.becomes(SERVING, SERVING)
        running.break_disk()
        for sequence in range(1, 9):
            answer = await running.tell(opened, 0, sequence)
            assert image(model(0).after(sequence)[1]) == image(wire.answer_from_proto(answer).reaction)
        await running.becomes(SERVING, NOT_SERVING)
        other = await running.open(1)  # opening goes on too
        durable = (await running.tell(opened, 0, 9)).durable_sequence
        assert durable <= 8
        running.mend_disk()
        await running.becomes(SERVING, SERVING)
        assert [9, 0] == [running.group_commit.durable_sequence(o.session_id) for o in (opened, other)]
        assert 0 < running.group_commit.counts.num_failures
    async with serving(path) as later:
        assert 10 == (await later.open(0)).next_sequence


async def test_with_refuse_events_are_refused_while_the_disk_fails_and_taken_once_it_is_well(path):
    async with serving(path, store_commit_ms=1.0, store_failure="refuse") as running:
        opened = await running.open(0)
        before = await running.tell(opened, 0, 1)
        await running.group_commit.flush()
        running.break_disk()
        await running.tell(opened, 0, 2)  # answered before the disk was tried: not called durable
        await running.becomes(NOT_SERVING, NOT_SERVING)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="durable sessions only"):
                await running.tell(opened, 0, 3)
        with pytest.raises(StoreUnavailableError):
            await running.open(1)
        assert 2 == (await running.tell(opened, 0, 2)).sequence  # what was answered once is answered again
        assert 1 == before.sequence
        running.mend_disk()
        await running.becomes(SERVING, SERVING)
        assert 3 == (await running.tell(opened, 0, 3)).sequence


async def test_a_server_with_degrade_starts_without_its_store_and_takes_it_up_later(path):
    config = ServerConfig(port=0, log_level="error", store=path, store_commit_ms=1.0)
    server = Server(ServedAgent(AGENT, manifest_of(AGENT), DIGEST), config)

    def broken(path):
        raise sqlite3.OperationalError("unable to open database file")

    server.hosting._store._connect = broken
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        running = Bench(server, channel)
        assert [SERVING, NOT_SERVING] == await running.health()
        opened = await running.open(0)
        await running.tell(opened, 0, 1)
        running.mend_disk()
        await running.becomes(SERVING, SERVING)
    await server.stop()
    async with serving(path) as later:
        assert 2 == (await later.tell(opened, 0, 2)).sequence  # the token too


async def test_a_server_with_refuse_does_not_start_without_its_store(path):
    config = ServerConfig(port=0, store=path, store_failure="refuse", log_level="error")
    server = Server(ServedAgent(AGENT, manifest_of(AGENT), DIGEST), config)

    def broken(path):
        raise sqlite3.OperationalError("unable to open database file")

    server.hosting._store._connect = broken
    with pytest.raises(ConfigError, match="unable to open database file; mend it, name another FILE with --store"):
        await server.start()


async def test_two_servers_do_not_share_a_store(path, monkeypatch):
    monkeypatch.setattr("ccm_runtime.sqlite_store._LOCK_LIMIT_S", 0.0)
    async with serving(path):
        with pytest.raises(ConfigError, match="another server uses"):
            async with serving(path):
                pass


@pytest.mark.parametrize("store", ["typo/s.db", "folder", "pipe"])
def test_a_store_that_can_be_no_file_is_a_mistake(tmp_path, store):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    config = ServerConfig(port=0, store=tmp_path / store)
    with pytest.raises(ConfigError, match="expected a file in a folder that exists"):
        Server(ServedAgent(AGENT, manifest_of(AGENT), DIGEST), config)


@pytest.mark.parametrize("jump_s", [3_600.0, -3_600.0, 400_000_000.0])
async def test_a_clock_that_is_set_loses_no_session(path, jump_s, monkeypatch):
    async with serving(path) as first:
        opened = await first.open(0)
    clocks = SimpleNamespace(time=lambda: time.time() + jump_s, monotonic=time.monotonic)
    monkeypatch.setattr("ccm_runtime.moment.time", clocks)
    async with serving(path) as second:
        assert 1 == (await second.tell(opened, 0, 1)).sequence


async def test_what_nobody_came_back_for_in_a_day_is_dropped(path):
    store, day_s = SqliteStore(path), recovery.STORED_LIMIT_S
    now = Moment.now()
    for index, age_s in ((0, day_s + 60), (1, day_s - 60)):
        saved_at = Moment(now.wall_s - age_s, now.boot_id, now.since_boot_s - age_s)
        for digest, shift in ((DIGEST, 0), ("ab" * 32, 10)):
            store.commit([record(model(index + shift).session(1), digest, saved_at)], [])
    store.close()
    async with serving(path) as running:
        assert ["session-1"] == [session.session_id for session in running.server.hosting.table]
    assert {"session-1", "session-11"} == {entry.session_id for entry in SqliteStore(path).read()}


async def test_a_server_with_a_smaller_maximum_resumes_all_sessions_and_opens_none_until_there_are_fewer(path, capfd):
    store, now, others = SqliteStore(path), Moment.now(), 10
    for index in range(9):
        saved_at = Moment(now.wall_s - index, now.boot_id, now.since_boot_s - index)
        resting = record(model(index + others).session(1), "ab" * 32, saved_at)
        store.commit([record(model(index).session(1), saved_at=saved_at), resting], [])
    store.close()
    async with serving(path, max_sessions=4, log_level="warning") as running:
        hosting = running.server.hosting
        assert [f"session-{8 - index}" for index in range(9)] == [session.session_id for session in hosting.table]
        for name in [f"session-{index}" for index in range(6)]:
            with pytest.raises(SessionLimitError):
                await running.open(99)
            hosting.close(name, hosting.table.token(name))
        await running.open(99)
    assert "num_resumed=9 max_sessions=4" in capfd.readouterr().err
    async with serving(path, max_sessions=4, log_level="warning"):
        pass
    assert "max_sessions=4" not in capfd.readouterr().err
    assert 3 + 1 + 9 == len(SqliteStore(path).read())


async def test_sessions_that_close_or_expire_leave_the_store(path):
    async with serving(path, idle_limit_s=1.0) as running:
        opened = [await running.open(index) for index in range(2)]
        await running.close(opened[0])
        running.server.hosting.table.idle_limit_s = -1.0
        running.server.hosting.table.expire()
        await running.group_commit.flush()
    assert [] == SqliteStore(path).read()
