"""Two real servers on one real Redis: whichever dies or hangs, its clients go on at the other one.

Short runs of `benchmarks/reliability.py`; each campaign is also shown to notice a store that breaks the promise.
"""

import signal
from contextlib import AsyncExitStack
from itertools import count

import failover
import grpc
import kills
import pytest
from durable import Model
from mid_session import KilledServer, adapter_of
from redis_server import redis_server
from replicas import Replica

from ccm_runtime.crash_points import SHARED_STORE
from ccm_runtime.errors import ServerUnreachableError

CLEAN = {"lost": 0, "wrong": 0, "missing": 0, "new_secrets": 0, "by_itself": 0}

FORGETFUL = """
from ccm_runtime.redis_store import RedisStore
commit_held, groups = RedisStore.commit_held, iter(range(1_000_000))
def forgets(self, saved, removed):
    return commit_held(self, saved if next(groups) % 2 else [], removed)
RedisStore.commit_held = forgets
"""


@pytest.mark.parametrize("point", SHARED_STORE)
def test_nothing_acknowledged_is_lost_at_a_crash_point_of_a_shared_store(shared, point):
    found = kills.apart(shared.url, "--point", point, "--kills", "4")
    assert {**CLEAN, "kills": 4} == {key: found[key] for key in (*CLEAN, "kills")}
    assert 0 < found["acknowledged"]


def test_the_campaign_notices_a_promise_that_is_broken(shared):
    assert 0 < kills.apart(shared.url, "--point", "append", "--kills", "8", sabotage=FORGETFUL)["lost"]


async def test_clients_of_a_server_that_is_killed_or_stopped_go_on_at_another_as_if_unbroken(tiny_bundle, tmp_path):
    with redis_server(tmp_path / "redis") as redis:
        found = await failover.campaign(tiny_bundle, redis, ends=3, seed=1)
    assert {"kills": 1, "kills_with_the_store": 1, "stops": 1, "differing": 0, "beliefs_differing": 0} == {
        key: found[key] for key in found if key not in {"answers", "taken_over"}
    }
    assert 3 * 4 <= found["taken_over"]  # every session, each time


async def test_a_server_that_was_frozen_while_its_session_went_on_elsewhere_cannot_write_it(tiny_bundle, shared):
    servers = [KilledServer(tiny_bundle, shared.url) for _ in range(2)]
    unbroken = Model(0, adapter_of(tiny_bundle))
    async with AsyncExitStack() as stack:
        there = []
        for server in servers:
            address = await server.start()
            stack.push_async_callback(server.kill)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            there.append(Replica(channel, lambda _: unbroken))
        frozen, other = there
        opened = await frozen.open(0)
        async with frozen.resumed(opened) as (_, tell):
            for sequence in range(1, 6):
                await tell(0, sequence)
            servers[0].process.send_signal(signal.SIGSTOP)
            durable = await goes_on(other, opened, until_durable=40)
            servers[0].process.send_signal(signal.SIGCONT)
            with pytest.raises(ServerUnreachableError, match="resume it"):
                await until_refused(tell, 6)
        async with frozen.resumed(opened) as (back, tell):
            assert durable < back.next_sequence
            await tell(0, back.next_sequence)


async def goes_on(server, opened, until_durable):
    """Resume a session and tell events until the store has so many; how many it has."""
    async with server.resumed(opened) as (resumed, tell):
        durable, sequence = 0, resumed.next_sequence
        while durable < until_durable:
            durable = (await tell(0, sequence)).durable_sequence
            sequence += 1
        return durable


async def until_refused(tell, sequence):
    """Tell events to a server that lost their session: it takes some until it is told so, and calls none durable."""
    for late in count(sequence):
        assert (await tell(0, late)).durable_sequence < sequence
