"""What clients and probes are told when the networks' device fails, hangs, or goes on as another one."""

import asyncio
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, suppress

import grpc
import numpy as np
import pytest
from failing_gpu import have_failing_gpu
from gated import Gated
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from ccm_runtime import condition
from ccm_runtime import server as server_module
from ccm_runtime.async_client import AsyncClient
from ccm_runtime.bundle import load_bundle
from ccm_runtime.commands.server_process import free_port
from ccm_runtime.condition import turns
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import DeviceLostError, ServerUnreachableError
from ccm_runtime.hosting import ServedAgent
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.messages import BeginEpisode, Intervention, SessionOptions
from ccm_runtime.server import DURABILITY, Server
from ccm_runtime.testing import served

LIMIT_S = 20.0
REFUSED_S = 1.0
SEEN = np.full(2, 0.5, np.float32)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def gpu(monkeypatch):
    return have_failing_gpu(monkeypatch)


def agent_of(folder, device):
    bundle = load_bundle(folder)
    return ServedAgent(OnnxPolicy(bundle, device), bundle.manifest, bundle.digest)


@asynccontextmanager
async def serving(agent, **settings):
    """A server with probes; and what asks how it is."""
    config = ServerConfig(**{"port": 0, "log_level": "error", "metrics_port": free_port(), "drain_s": 60.0, **settings})
    server = Server(agent, config)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, Probes(config.metrics_port, HealthStub(channel))
    finally:
        await server.stop()


class Probes:
    def __init__(self, port, health):
        self._port, self._health = port, health

    async def ask(self, path):
        """The status and the text of a page."""

        def ask():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=LIMIT_S) as page:
                    return page.status, page.read().decode()
            except urllib.error.HTTPError as refused:
                with refused:
                    return refused.code, refused.read().decode()

        return await asyncio.to_thread(ask)

    async def health(self, service=""):
        request = health_pb2.HealthCheckRequest(service=service)
        return (await self._health.Check(request, timeout=LIMIT_S)).status

    def watch(self):
        return self._health.Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT_S)


@pytest.fixture
def be_refused_soon(monkeypatch):
    """A client comes back to a server whose GPU failed until its call's time is up: from now on, what time that is."""

    def be_refused_soon(client):
        monkeypatch.setattr(client._connection, "_timeout_s", REFUSED_S)

    return be_refused_soon


@pytest.mark.parametrize("deadline_ms", [None, 10_000.0])
async def test_a_lost_gpu_is_told_at_once_to_whoever_asks_and_to_clients_and_only_a_restart_is_waited_for(
    tiny_bundle, gpu, be_refused_soon, capfd, deadline_ms
):
    async with (
        serving(agent_of(tiny_bundle, "cuda"), action_deadline_ms=deadline_ms) as (server, probes),
        AsyncClient(f"127.0.0.1:{server.port}", timeout_s=LIMIT_S) as client,
    ):
        watching = probes.watch()
        assert SERVING == (await watching.read()).status
        assert [(200, "ready\n"), (200, "live\n")] == [await probes.ask("ready"), await probes.ask("live")]
        session = await client.open_session()
        await session.begin_episode(SEEN)
        gpu.fails = True
        be_refused_soon(client)
        with pytest.raises(ServerUnreachableError, match="the server's GPU failed") as refused:
            await session.act(SEEN, 0.0)
        assert NOT_SERVING == (await watching.read()).status == await probes.health()
        for path in ("ready", "live"):
            status, why = await probes.ask(path)
            assert 503 == status
            assert "its GPU failed; start the server again" in why
            assert "robot-7" not in why + str(refused.value)  # the driver names the machine
        gpu.fails, runs = False, gpu.runs
        calls = session.act(SEEN, 0.0), client.open_session().open(), client.act(None, SEEN)
        for told in await asyncio.gather(*calls, return_exceptions=True):
            with pytest.raises(ServerUnreachableError, match="the server's GPU failed"):
                raise told
        assert runs == gpu.runs  # what it says after a failure moves no robot
        (held,) = server.hosting.table
        assert (2, True) == (held.next_sequence, held.memory.trial.in_episode)
        _, metrics = await probes.ask("metrics")
        assert 'device="lost"' in metrics
        async with asyncio.timeout(LIMIT_S):  # its episode cannot end, and holds the shutdown up for no drain_s
            assert await server.drain()
    assert capfd.readouterr().err.count("gpu failed") == 1


async def test_a_gpu_that_the_cpu_stands_in_for_leaves_the_server_ready_and_degraded_and_is_told(
    tiny_bundle, gpu, capfd
):
    async with (
        serving(agent_of(tiny_bundle, "auto")) as (server, probes),
        AsyncClient(f"127.0.0.1:{server.port}", timeout_s=LIMIT_S) as client,
        client.open_session() as session,
    ):
        await session.begin_episode(SEEN)
        gpu.fails = True
        assert 2 == len(await session.act(SEEN, 0.0))
        status, told = await probes.ask("ready")
        assert (200, "degraded") == (status, told.splitlines()[0])
        assert "its GPU failed, and it goes on with the CPU" in told
        assert (200, "live\n") == await probes.ask("live")
        assert SERVING == await probes.health()
        _, metrics = await probes.ask("metrics")
        assert 'device="cpu"' in metrics
        assert next(line for line in metrics.splitlines() if line.startswith("ccm_device_failed{")).endswith(" 1.0")
    told = capfd.readouterr().err
    assert told.count("gpu failed") == 1
    assert "goes_on_with='cpu'" in told
    assert "out of memory" in told


async def test_a_store_that_is_well_again_makes_no_lost_gpu_ready(tiny_bundle, gpu, be_refused_soon, tmp_path):
    settings = {"store": tmp_path / "s.db", "store_failure": "refuse"}
    async with (
        serving(agent_of(tiny_bundle, "cuda"), **settings) as (server, probes),
        AsyncClient(f"127.0.0.1:{server.port}", timeout_s=LIMIT_S) as client,
    ):
        session = await client.open_session()
        gpu.fails = True
        be_refused_soon(client)
        with pytest.raises(ServerUnreachableError):
            await session.begin_episode(SEEN)
        for well in (False, True):
            server.hosting.group_commit.on_change(well, "the disk is full")
            assert (SERVING if well else NOT_SERVING) == await probes.health(DURABILITY)
            assert NOT_SERVING == await probes.health()


async def test_networks_that_hang_leave_robots_to_the_fallback_and_the_server_to_a_restart(monkeypatch):
    policy = Gated()
    async with (
        serving(served(policy), action_deadline_ms=5.0, max_misses=2) as (server, probes),
        AsyncClient(f"127.0.0.1:{server.port}", timeout_s=LIMIT_S) as client,
        client.open_session() as session,
    ):
        monkeypatch.setattr(condition, "STUCK_S", 0.0)
        policy.gate.clear()
        try:
            action = await session.begin_episode(SEEN)
            assert (Intervention.LATE,) == session.answer.reaction.interventions
            np.testing.assert_array_equal(np.zeros(2), action)
            await session.act(SEEN, 0.0)
            assert session.answer.safe is not None
            for path in ("live", "ready"):
                status, why = await probes.ask(path)
                assert 503 == status
                assert re.search(r"its networks have not answered for \d+ s", why)
        finally:
            policy.gate.set()
        monkeypatch.undo()
        await server.hosting.roster.rollout().current.stepper.beside(lambda: None)  # what hung has come back
        assert (200, "live\n") == await probes.ask("live")


async def test_networks_that_hang_keep_no_event_that_was_answered():
    policy = Gated()
    async with (
        serving(served(policy), action_deadline_ms=1.0, max_misses=1_000) as (server, _),
        AsyncClient(f"127.0.0.1:{server.port}", timeout_s=LIMIT_S) as client,
        client.open_session() as session,
    ):
        policy.gate.clear()
        try:
            await session.begin_episode(SEEN)
            for _ in range(4):
                await session.act(SEEN, 0.0)
            assert not server.hosting.roster.rollout().current.stepper._punctual._waiting
        finally:
            policy.gate.set()


async def test_a_loop_that_does_not_turn_is_not_live():
    blocked, loop, other = threading.Event(), asyncio.new_event_loop(), threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert turns(loop, LIMIT_S)
        loop.call_soon_threadsafe(lambda: (blocked.set(), other.wait(LIMIT_S)))
        assert blocked.wait(LIMIT_S)
        assert not turns(loop, 0.01)
    finally:
        other.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert not turns(loop, 0.01)


async def test_clients_of_servers_that_share_sessions_go_on_elsewhere_when_a_gpu_is_lost(tiny_bundle, gpu, shared):
    settings, other_port = {"store": shared.url, "drain_s": 0.2}, free_port()
    async with (
        serving(agent_of(tiny_bundle, "cuda"), **settings) as (lost, probes),
        AsyncClient(f"ipv4:127.0.0.1:{lost.port},127.0.0.1:{other_port}", timeout_s=LIMIT_S) as client,
    ):
        session = await client.open_session()
        await session.begin_episode(SEEN)
        async with serving(agent_of(tiny_bundle, "cpu"), port=other_port, **settings) as (well, _):
            gpu.fails = True
            assert 2 == len(await session.act(SEEN, 0.0))
            assert 1 == len(well.hosting.table)
            assert 503 == (await probes.ask("live"))[0]


async def test_a_gpu_that_fails_as_a_session_comes_from_another_server_sends_it_back_and_takes_nothing(
    tiny_bundle, gpu, shared
):
    settings = {"store": shared.url}
    async with (
        serving(agent_of(tiny_bundle, "cuda"), **settings) as (lost, _),
        serving(agent_of(tiny_bundle, "cpu"), **settings) as (well, _),
        AsyncClient(f"127.0.0.1:{well.port}", timeout_s=LIMIT_S) as client,
    ):
        session = await client.open_session()
        ticket = session.ticket
        gpu.fails = True
        with pytest.raises(DeviceLostError):  # to a client, a server that has gone: it goes elsewhere
            await lost.hosting.fetch(ticket.session_id, ticket.token)
        await well.hosting.group_commit.flush()
        assert 2 == len(await session.begin_episode(SEEN))
        assert 1 == len(well.hosting.table)


async def test_a_gpu_that_fails_as_a_server_starts_ends_the_start_and_harms_no_session(tiny_bundle, gpu, tmp_path):
    settings = {"store": tmp_path / "s.db"}
    async with serving(agent_of(tiny_bundle, "cuda"), **settings) as (before, _):
        opened = {(await before.hosting.open(SessionOptions())).session_id for _ in range(3)}
    agent, gpu.fails = agent_of(tiny_bundle, "cuda"), True
    with pytest.raises(DeviceLostError):
        async with serving(agent, **settings):
            pass
    gpu.fails = False
    async with serving(agent_of(tiny_bundle, "cuda"), **settings) as (after, _):
        assert opened == {session.session_id for session in after.hosting.table}


async def test_a_server_whose_networks_hang_takes_no_session_from_another_one(monkeypatch, shared):
    policy, settings = Gated(), {"store": shared.url, "action_deadline_ms": 5.0, "max_misses": 1_000}
    async with serving(served(policy), **settings) as (hangs, _), serving(served(Gated()), **settings) as (well, _):
        elsewhere = await well.hosting.open(SessionOptions(idempotency_key="k"))
        own = await hangs.hosting.open(SessionOptions())
        policy.gate.clear()
        try:
            answer = await hangs.hosting.step(own.session_id, 1, BeginEpisode(SEEN))
            assert (Intervention.LATE,) == answer.reaction.interventions
            monkeypatch.setattr(condition, "STUCK_S", 0.0)
            with pytest.raises(ServerUnreachableError, match="networks do not run any more; go elsewhere"):
                await hangs.hosting.fetch(elsewhere.session_id, elsewhere.token)
            with pytest.raises(ServerUnreachableError, match="networks do not run any more; go elsewhere"):
                await hangs.hosting.open(SessionOptions(idempotency_key="k"))
            assert [own.session_id] == [session.session_id for session in hangs.hosting.table]
        finally:
            policy.gate.set()


async def test_a_session_that_comes_from_another_server_keeps_none_from_its_deadline(shared):
    policy, settings = Gated(), {"store": shared.url, "action_deadline_ms": 5.0, "max_misses": 1_000}
    async with serving(served(policy), **settings) as (here, _), serving(served(Gated()), **settings) as (first, _):
        coming = await first.hosting.open(SessionOptions())
        own = await here.hosting.open(SessionOptions())
        policy.gate.clear()
        try:
            fetching = asyncio.create_task(here.hosting.fetch(coming.session_id, coming.token))
            async with asyncio.timeout(LIMIT_S):
                while not here.hosting.roster.rollout().current.stepper.busy_s:  # its belief is being read
                    await asyncio.sleep(0)
            answer = await here.hosting.step(own.session_id, 1, BeginEpisode(SEEN))
            assert (Intervention.LATE,) == answer.reaction.interventions
            assert not fetching.done()
        finally:
            policy.gate.set()
        assert await fetching


@pytest.mark.parametrize("abstract", [False, True])
async def test_systemd_is_told_by_a_server_that_lives_and_by_no_other(
    tiny_bundle, gpu, tmp_path, monkeypatch, abstract
):
    monkeypatch.setattr(server_module, "_SWEEP_S", 0.001)
    address = f"@ccm-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{address[1:]}" if abstract else address)
        systemd.settimeout(LIMIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        async with serving(agent_of(tiny_bundle, "cuda")) as (server, probes):
            for _ in range(2):
                assert b"WATCHDOG=1" == await asyncio.to_thread(systemd.recv, 64)
            gpu.fails = True
            with pytest.raises(DeviceLostError):
                await server.hosting.open(SessionOptions())
            assert 503 == (await probes.ask("live"))[0]
            systemd.setblocking(False)
            with suppress(BlockingIOError):
                while systemd.recv(64):  # what was told before
                    pass
            assert 503 == (await probes.ask("live"))[0]
            with pytest.raises(BlockingIOError):
                systemd.recv(64)
