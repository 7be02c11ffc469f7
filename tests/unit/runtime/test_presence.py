"""Only the time that a server was there makes a session idle."""

import asyncio
import time

import pytest

from ccm_runtime import server as server_module
from ccm_runtime import service
from ccm_runtime.config import ServerConfig
from ccm_runtime.messages import SessionOptions
from ccm_runtime.presence import Presence
from ccm_runtime.server import Server
from ccm_runtime.testing import ScriptedPolicy, served


@pytest.mark.parametrize(("steps", "there"), [((5.0, 10.0), 15.0), ((5.0, 10.5, 1.0), 6.0), ((3600.0,), 0.0)])
def test_a_pause_between_two_looks_does_not_count(steps, there):
    now = [100.0]
    clock = Presence(10.0, lambda: now[0])
    assert 0.0 == clock()
    for step in steps:
        now[0] += step
        found = clock()
    assert there == found


async def test_a_server_that_was_frozen_for_longer_than_the_idle_limit_keeps_its_sessions(monkeypatch):
    monkeypatch.setattr(server_module, "_SWEEP_S", 0.02)
    server = Server(served(ScriptedPolicy()), ServerConfig(port=0, log_level="error", idle_limit_s=0.2))
    await server.start()
    try:
        opened = await server.hosting.open(SessionOptions())
        time.sleep(0.5)  # nothing turns meanwhile, as in a process that is stopped
        assert server.hosting.table.get(opened.session_id, opened.token)
        async with asyncio.timeout(20.0):
            while len(server.hosting.table):
                await asyncio.sleep(0.01)
    finally:
        await server.stop()


async def test_a_stream_is_not_silent_while_its_server_is_frozen_and_is_afterwards(monkeypatch):
    monkeypatch.setattr(service, "_AWAY_S", 0.2)
    began_s = time.monotonic()

    async def silent():
        async with service.Attention(0.1):
            time.sleep(0.5)
            await asyncio.sleep(20.0)

    with pytest.raises(TimeoutError):
        await silent()
    assert 0.59 < time.monotonic() - began_s < 15.0
