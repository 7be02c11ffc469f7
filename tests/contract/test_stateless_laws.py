"""Laws of calls without a session: actions are in time whatever the networks do, within bounds, and no faster than
allowed; contexts are of transitions in their order.
"""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from gated import Gated

from ccm_runtime.belief import Folded, Transitions
from ccm_runtime.client import Client
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import SpecError
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import EncodedTransition, Intervention
from ccm_runtime.server import Server
from ccm_runtime.testing import ScriptedPolicy, manifest_of, serve
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub
from ccm_runtime.versions import ServedAgent

LIMIT_S = 20.0
DEADLINE_MS = 10.0
LATE = pb.GUARD_INTERVENTION_LATE
DIGEST = "5c" * 32


class Bench:
    """A server whose networks stall, and its stub."""

    def __init__(self, server, policy, stub):
        self.server, self.policy, self.stub = server, policy, stub

    async def act(self, **request):
        return await self.stub.Act(pb.ActRequest(observation=[0.5, -0.5], **request), timeout=LIMIT_S)


@asynccontextmanager
async def bench(safety=None, **settings):
    policy = Gated()
    agent = ServedAgent(policy, manifest_of(policy, safety=safety), DIGEST)
    server = Server(agent, ServerConfig(**{"port": 0, "log_level": "error", **settings}))
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Bench(server, policy, AdaptationStub(channel))
    finally:
        policy.gate.set()
        await server.stop()


async def test_the_fallback_is_answered_while_the_networks_still_run():
    async with bench(action_deadline_ms=DEADLINE_MS) as made:
        made.policy.gate.clear()
        began_s = time.perf_counter()
        acted = await made.act()
        assert (time.perf_counter() - began_s) * 1000 >= DEADLINE_MS
        assert not made.policy.gate.is_set()
        assert ([0.0, 0.0], [LATE]) == (list(acted.action), list(acted.interventions))
        assert (0.0, 0.0) == (acted.certainty, acted.novelty)


async def test_the_fallback_is_in_time_while_the_networks_of_earlier_calls_hang():
    async with bench(action_deadline_ms=DEADLINE_MS) as made:
        made.policy.gate.clear()
        one_by_one = [await made.act() for _ in range(3)]
        together = await asyncio.gather(*(made.act() for _ in range(50)))
        assert all([LATE] == list(acted.interventions) for acted in one_by_one + together)
        made.policy.gate.set()
        async with asyncio.timeout(LIMIT_S):
            while (acted := await made.act()).interventions:
                pass
        assert [0.0, 0.0] != list(acted.action)
        assert 53 <= made.server.hosting.metrics.interventions[Intervention.LATE]


async def test_an_action_in_time_is_the_one_that_is_given_without_a_deadline():
    async with bench(action_deadline_ms=LIMIT_S * 1000) as made, bench() as free:
        for phase in (pb.PHASE_EXPLORE, pb.PHASE_EXECUTE):
            context = pb.Context(bundle_digest=DIGEST, belief=[2.0, 2.0, 1.0, -1.0])
            request = {"phase": phase, "context": context, "noise": [0.5, 0.5]}
            assert await made.act(**request) == await free.act(**request)


@pytest.mark.parametrize(
    ("fallback", "previous", "expected"),
    [
        ("hold", [0.5, -0.5], [0.5, -0.5]),
        ("hold", [5.0, -0.5], [1.0, -0.5]),
        ("hold", [], [0.0, 0.0]),
        ("zero", [0.5, -0.5], [0.25, -0.25]),
        ("last-safe", [0.5, -0.5], [0.25, -0.25]),
    ],
)
async def test_the_fallback_starts_from_the_previous_action_where_it_is_told(fallback, previous, expected):
    async with bench(SafetyLimits(max_rate=(0.25, 0.25), fallback=fallback), action_deadline_ms=DEADLINE_MS) as made:
        made.policy.gate.clear()
        acted = await made.act(previous_action=previous)
        assert expected == list(acted.action)
        assert LATE == acted.interventions[0]


async def test_no_entry_differs_from_the_previous_action_by_more_than_is_allowed():
    async with bench(SafetyLimits(max_rate=(0.01, 0.01))) as made:
        free = await made.act()
        assert not free.interventions
        slowed = await made.act(previous_action=[-free.action[0], -free.action[1]])
        assert [pb.GUARD_INTERVENTION_RATE] == list(slowed.interventions)
        assert all(abs(now + then) <= 0.0101 for now, then in zip(slowed.action, free.action, strict=True))


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"noise": [1.0]}, "noise: expected 2"),
        ({"phase": pb.PHASE_CLOSED}, "phase: expected"),
        ({"previous_action": [1.0]}, "previous_action: expected 2"),
        ({"previous_action": [1.0, float("nan")]}, "previous_action: expected 2 finite"),
        ({"context": pb.Context(bundle_digest=DIGEST, belief=[1.0])}, "belief: expected 4"),
        ({"context": pb.Context(bundle_digest="ff" * 32, belief=[1.0] * 4)}, "was made by bundle"),
    ],
)
async def test_what_does_not_fit_is_refused_and_not_answered_with_the_fallback(request_, says):
    async with bench(action_deadline_ms=DEADLINE_MS) as made:
        made.policy.gate.clear()
        with pytest.raises(grpc.RpcError) as refused:
            await made.act(**request_)
        assert says in refused.value.details()


async def test_a_fault_of_the_networks_is_none_of_the_deadline():
    async with bench(action_deadline_ms=LIMIT_S * 1000) as made:

        def fails(*_):
            raise TimeoutError

        object.__setattr__(made.policy, "execute", fails)
        with pytest.raises(grpc.RpcError) as refused:
            await made.act()
        assert grpc.StatusCode.OK is not refused.value.code()
        assert 0 == made.server.hosting.metrics.interventions[Intervention.LATE]


def told(address, previous_action):
    with Client(address) as client:
        return client.act(None, [0.5, -0.5], previous_action=previous_action)


async def test_a_client_tells_the_previous_action():
    async with bench(SafetyLimits(fallback="hold"), action_deadline_ms=DEADLINE_MS) as made:
        made.policy.gate.clear()
        address = f"127.0.0.1:{made.server.port}"
        acted = await asyncio.to_thread(told, address, [0.5, -0.5])
        assert ([0.5, -0.5], (Intervention.LATE,)) == (acted.action.tolist(), acted.interventions)
        with pytest.raises(SpecError):
            await asyncio.to_thread(told, address, [0.5])


@dataclass(frozen=True)
class Fading(ScriptedPolicy):
    """Half of what is known fades with each transition, so that their order counts, as with a recurrent encoder."""

    def fold(self, belief, transitions):
        fields = [getattr(transitions, name) for name in Transitions.__slots__]
        for step in range(transitions.valid.shape[1]):
            one = Transitions(*(field[:, step : step + 1] for field in fields))
            after = super().fold(belief, one).belief
            belief = np.where(one.valid[:, 0] > 0.0, after - 0.5 * belief, belief)
        mean = belief[:, self.size :] / belief[:, : self.size]
        return Folded(belief, mean, 1.0 / np.sqrt(belief[:, : self.size]))


def test_transitions_are_folded_in_the_order_in_which_they_are_told():
    draw, policy = np.random.default_rng(0), Fading()
    seen, acted = draw.normal(size=(301, 2)), draw.uniform(-1.0, 1.0, (300, 2))
    told = [EncodedTransition(*row) for row in zip(seen[:-1], acted, draw.normal(size=300), seen[1:], strict=True)]
    with serve(policy) as address, Client(address) as client:
        whole, backwards = client.encode(told), client.encode(told[::-1])
        parts = client.encode(told[7:], client.encode(told[:7]).context)
    np.testing.assert_allclose(whole.context.belief, parts.context.belief, rtol=1e-5)
    assert np.abs(whole.latent_mean - backwards.latent_mean).max() > 0.01
