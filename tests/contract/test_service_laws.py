"""Laws of the service, over a real server on loopback and a client that is nothing but generated code."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ccm_runtime import statuses
from ccm_runtime.adapt import Adapter
from ccm_runtime.config import ServerConfig
from ccm_runtime.manifest import Adaptation, SafetyLimits
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.server import SERVICE, Server
from ccm_runtime.testing import ScriptedPolicy, manifest_of, served
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

K2 = Adaptation(explore_episodes=2, episodes=4, horizon=3)
LIMIT_S = 20.0
QUIET = {"port": 0, "log_level": "error"}


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class Bench:
    """A running server and a stub."""

    def __init__(self, server, channel, clock):
        self.server, self.channel, self.clock = server, channel, clock
        self.stub = AdaptationStub(channel)

    async def open(self, **options):
        opened = await self.stub.OpenSession(pb.OpenSessionRequest(**options), timeout=LIMIT_S)
        return Session(self, opened)


class Session:
    """A session stepped by unary calls."""

    def __init__(self, bench, opened):
        self.bench, self.opened = bench, opened

    async def send(self, event, token=None):
        request = pb.StepRequest(session_id=self.opened.session_id, token=token or self.opened.token, event=event)
        return (await self.bench.stub.Step(request, timeout=LIMIT_S)).answer

    async def close(self):
        request = pb.CloseSessionRequest(session_id=self.opened.session_id, token=self.opened.token)
        return await self.bench.stub.CloseSession(request, timeout=LIMIT_S)


@asynccontextmanager
async def bench(agent=None, **settings):
    clock = Clock()
    server = Server(served(agent or ScriptedPolicy(K2)), ServerConfig(**{**QUIET, **settings}), clock)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Bench(server, channel, clock)
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def running():
    async with bench() as made:
        yield made


def begin(sequence, observation=(0.5, -0.5)):
    return pb.Event(sequence=sequence, begin_episode=pb.BeginEpisode(observation=observation))


def moved(sequence, observation=(0.25, 0.25), reward=1.0, **ended):
    return pb.Event(sequence=sequence, transition=pb.Transition(observation=observation, reward=reward, **ended))


EPISODES = [begin(1), moved(2), moved(3), moved(4), begin(5), moved(6, terminated=True), begin(7), moved(8)]


async def refused(call):
    """Return the status, the reason and the message of a refused call."""
    with pytest.raises(grpc.RpcError) as error:
        await call
    rpc = error.value
    back = statuses.error_from_rpc(rpc.code(), rpc.details(), list(rpc.trailing_metadata() or ()))
    assert "\n" not in rpc.details()
    return rpc.code(), type(back).__name__, rpc.details()


async def test_the_agent_describes_itself(running):
    agent = (await running.stub.DescribeAgent(pb.DescribeAgentRequest(), timeout=LIMIT_S)).agent
    assert ("scripted", 2, 4, 3) == (agent.family, agent.explore_episodes, agent.episodes, agent.horizon)
    assert ("scripted-0", "scripted") == (agent.agent_id, agent.method)
    assert [-1.0, -1.0] == list(agent.action.low)


async def test_the_service_answers_what_the_core_answers(running):
    session = await running.open(seed=11, stochastic=True)
    core = Adapter.of(ScriptedPolicy(K2))
    memory = core.start(seed=11, stochastic=True)
    for event in EPISODES:
        answer = await session.send(event)
        if event.HasField("begin_episode"):
            value = BeginEpisode(np.array(event.begin_episode.observation, np.float32))
        else:
            told = event.transition
            value = Transition(np.array(told.observation, np.float32), told.reward, told.terminated, told.truncated)
        ((memory, reaction),) = core.step([memory], [value])
        assert ([] if reaction.action is None else reaction.action.tolist()) == list(answer.action)
        assert (reaction.episode, reaction.step, reaction.episode_over) == (
            answer.episode,
            answer.step,
            answer.episode_over,
        )


async def test_a_trial_explores_k_episodes_then_executes(running):
    session = await running.open()
    answers = [await session.send(event) for event in EPISODES]
    phases = [answer.phase for event, answer in zip(EPISODES, answers, strict=True) if event.HasField("begin_episode")]
    assert [pb.PHASE_EXPLORE, pb.PHASE_EXPLORE, pb.PHASE_EXECUTE] == phases


async def test_a_repeated_event_gets_the_very_same_answer(running):
    session = await running.open()
    first = await session.send(begin(1))
    assert first == await session.send(begin(1))
    second = await session.send(moved(2))
    assert second == await session.send(moved(2, observation=(9.0, 9.0)))
    assert 2 == (await session.send(moved(3))).step


async def test_a_gap_is_refused_with_the_expected_number(running):
    session = await running.open()
    await session.send(begin(1))
    with pytest.raises(grpc.RpcError) as error:
        await session.send(moved(5))
    assert grpc.StatusCode.FAILED_PRECONDITION is error.value.code()
    assert ("ccm-expected-sequence", "2") in tuple(error.value.trailing_metadata())
    assert "expects event 2" in error.value.details()
    assert 1 == (await session.send(moved(2))).step


async def test_sessions_do_not_see_each_other(running):
    sessions = [await running.open() for _ in range(4)]
    for sequence in (1, 2, 3):
        event = begin(1) if sequence == 1 else moved(sequence)
        for index, session in enumerate(sessions):
            if sequence > 1:
                event = moved(sequence, observation=(float(index), 0.0), reward=float(index))
            await session.send(event)
    beliefs = {tuple((await session.close()).context.belief) for session in sessions}
    assert 4 == len(beliefs)


async def test_another_sessions_token_opens_nothing(running):
    mine, other = await running.open(), await running.open()
    for token in (other.opened.token, "guess"):
        code, kind, message = await refused(mine.send(begin(1), token=token))
        assert (grpc.StatusCode.NOT_FOUND, "SessionUnknownError") == (code, kind)
        assert mine.opened.token not in message


async def test_an_idle_session_expires(running):
    session = await running.open()
    running.clock.now_s += 301.0
    code, kind, _ = await refused(session.send(begin(1)))
    assert (grpc.StatusCode.NOT_FOUND, "SessionUnknownError") == (code, kind)
    assert [] == list((await session.close()).returns)


async def test_the_number_of_sessions_is_bounded():
    async with bench(max_sessions=2) as small:
        first = await small.open()
        await small.open()
        code, kind, message = await refused(small.open())
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "SessionLimitError") == (code, kind)
        assert "maximum of 2 sessions" in message
        await first.close()
        await small.open()


async def test_closing_tells_the_returns_and_the_context_and_may_be_repeated(running):
    session = await running.open()
    for event in EPISODES[:4]:
        await session.send(event)
    closed = await session.close()
    assert [3.0] == list(closed.returns)
    assert 4 == len(closed.context.belief)
    assert closed == await session.close()
    foreign = pb.CloseSessionRequest(session_id=session.opened.session_id, token="00" * 32)
    assert pb.CloseSessionResponse() == await running.stub.CloseSession(foreign, timeout=LIMIT_S)


async def test_opening_twice_with_one_key_gives_one_session(running):
    first, second = await running.open(idempotency_key="k"), await running.open(idempotency_key="k")
    assert first.opened == second.opened
    assert 1 == len(running.server.hosting.table)


@pytest.mark.parametrize(
    "expectation",
    [
        {"expected_family": "walker"},
        {"expected_observation_size": 3},
        {"expected_action_size": 1},
        {"expected_bundle_digest": "ff" * 32},
        {"context": pb.Context(bundle_digest="ff" * 32, belief=[1, 1, 0, 0])},
    ],
)
async def test_a_wrong_contract_is_refused_when_the_session_opens(running, expectation):
    code, kind, _ = await refused(running.open(**expectation))
    assert (grpc.StatusCode.FAILED_PRECONDITION, "ContextMismatchError") == (code, kind)
    assert 0 == len(running.server.hosting.table)


@pytest.mark.parametrize(
    ("event", "code", "message"),
    [
        (pb.Event(sequence=1), grpc.StatusCode.INVALID_ARGUMENT, "has no kind"),
        (begin(1, ()), grpc.StatusCode.INVALID_ARGUMENT, "expected 2 values"),
        (begin(1, (1.0, 2.0, 3.0)), grpc.StatusCode.INVALID_ARGUMENT, "expected 2 values"),
        (begin(1, (1.0, float("nan"))), grpc.StatusCode.INVALID_ARGUMENT, "must be finite"),
        (moved(1), grpc.StatusCode.FAILED_PRECONDITION, "begin one before stepping"),
    ],
)
async def test_an_event_that_does_not_fit_is_refused_in_one_clear_line(running, event, code, message):
    session = await running.open()
    status, _, details = await refused(session.send(event))
    assert code is status
    assert message in details
    assert 1 == (await session.send(begin(1))).sequence


@pytest.mark.parametrize("method", ["DescribeAgent", "OpenSession", "Step", "CloseSession", "Encode", "Act"])
async def test_bytes_that_are_no_message_are_the_callers_fault(running, method):
    call = running.channel.unary_unary(f"/{SERVICE}/{method}")
    code, kind, message = await refused(call(b"\xff\xff\xff\xff", timeout=LIMIT_S))
    assert (grpc.StatusCode.INVALID_ARGUMENT, "SpecError") == (code, kind)
    assert "no message" in message


async def test_a_message_over_the_bound_is_refused():
    async with bench(max_message_bytes=1024) as small:
        session = await small.open()
        code, _, _ = await refused(session.send(begin(1, [0.0] * 2000)))
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is code
        assert 1 == (await session.send(begin(1))).sequence


async def test_a_fault_inside_shows_nothing_of_the_inside(capfd):
    class Faulty(ScriptedPolicy):
        def explore(self, observation, belief, noise):
            raise RuntimeError("secret path")

    async with bench(Faulty(K2)) as broken:
        session = await broken.open()
        code, kind, message = await refused(session.send(begin(1)))
    assert (grpc.StatusCode.INTERNAL, "ServerError", statuses.INTERNAL_MESSAGE) == (code, kind, message)
    log = capfd.readouterr().err
    assert "secret path" in log
    assert session.opened.token not in log


class TestStream:
    async def attach(self, running, **kind):
        stream = running.stub.Session(timeout=LIMIT_S)
        await stream.write(pb.SessionRequest(**kind))
        return stream, (await stream.read()).opened

    async def test_a_stream_answers_in_order_and_as_unary_calls_do(self, running):
        unary = await running.open()
        stream, _ = await self.attach(running, open=pb.OpenSessionRequest())
        for event in EPISODES:
            await stream.write(pb.SessionRequest(event=event))
        for event in EPISODES:
            streamed, single = (await stream.read()).answer, await unary.send(event)
            assert (single.sequence, list(single.action)) == (streamed.sequence, list(streamed.action))
        await stream.write(pb.SessionRequest(close=pb.CloseSessionRequest()))
        assert [3.0, 1.0] == list((await stream.read()).closed.returns)
        assert grpc.aio.EOF is await stream.read()

    async def test_a_refused_event_leaves_the_stream_and_the_session_as_they_were(self, running):
        stream, _ = await self.attach(running, open=pb.OpenSessionRequest())
        for event in (begin(3), begin(1, (1.0,)), begin(1)):
            await stream.write(pb.SessionRequest(event=event))
        gap, misfit = (await stream.read()).error, (await stream.read()).error
        assert (3, 9, 1, "STEP_GAP") == (gap.sequence, gap.code, gap.expected_sequence, gap.reason)
        assert (3, "SPEC") == (misfit.code, misfit.reason)
        assert 1 == (await stream.read()).answer.sequence
        stream.cancel()

    async def test_a_session_outlives_its_stream_and_goes_on_where_it_was(self, running):
        unbroken = await running.open(seed=5, stochastic=True)
        stream, opened = await self.attach(running, open=pb.OpenSessionRequest(seed=5, stochastic=True))
        for event in EPISODES[:2]:
            await stream.write(pb.SessionRequest(event=event))
            await stream.read()
        stream.cancel()
        stream, resumed = await self.attach(
            running, resume=pb.ResumeSession(session_id=opened.session_id, token=opened.token)
        )
        assert 3 == resumed.next_sequence
        await stream.write(pb.SessionRequest(event=EPISODES[1]))
        repeated = (await stream.read()).answer
        for event in EPISODES[:2]:
            expected = await unbroken.send(event)
        assert list(expected.action) == list(repeated.action)
        await stream.write(pb.SessionRequest(event=EPISODES[2]))
        assert list((await unbroken.send(EPISODES[2])).action) == list((await stream.read()).answer.action)
        stream.cancel()

    @pytest.mark.parametrize(
        ("first", "code"),
        [
            (pb.SessionRequest(event=begin(1)), grpc.StatusCode.INVALID_ARGUMENT),
            (pb.SessionRequest(), grpc.StatusCode.INVALID_ARGUMENT),
            (pb.SessionRequest(resume=pb.ResumeSession(session_id="x", token="y")), grpc.StatusCode.NOT_FOUND),  # noqa: S106
        ],
    )
    async def test_a_stream_must_attach_first(self, running, first, code):
        stream = running.stub.Session(timeout=LIMIT_S)
        await stream.write(first)
        status, _, _ = await refused(stream.read())
        assert code is status

    async def test_a_stream_that_sends_no_message_ends(self, running):
        call = running.channel.stream_stream(f"/{SERVICE}/Session")(timeout=LIMIT_S)
        await call.write(b"\xff\xff\xff")
        status, _, details = await refused(call.read())
        assert grpc.StatusCode.INVALID_ARGUMENT is status
        assert "no message" in details

    async def test_a_stream_whose_session_expired_ends(self, running):
        stream, _ = await self.attach(running, open=pb.OpenSessionRequest())
        running.clock.now_s += 301.0
        await stream.write(pb.SessionRequest(event=begin(1)))
        assert grpc.StatusCode.NOT_FOUND is (await refused(stream.read()))[0]

    async def test_a_silent_stream_ends(self):
        async with bench(idle_limit_s=0.05) as impatient:
            stream = impatient.stub.Session(timeout=LIMIT_S)
            status, _, details = await refused(stream.read())
        assert grpc.StatusCode.NOT_FOUND is status
        assert "silent for 0.05 s" in details
        assert "--idle-limit-s); open a new one" in details

    async def test_many_streams_at_once_keep_apart(self, running):
        async def trial(index):
            stream, _ = await self.attach(running, open=pb.OpenSessionRequest())
            actions = []
            for event in (begin(1), moved(2, observation=(0.1 * index, 0.0)), moved(3)):
                await stream.write(pb.SessionRequest(event=event))
                actions.append(tuple((await stream.read()).answer.action))
            stream.cancel()
            return actions[-1]

        together = await asyncio.gather(*(trial(index) for index in range(8)))
        alone = [await trial(index) for index in range(8)]
        assert alone == together
        assert 8 == len(set(together))


class TestStateless:
    async def test_a_context_acts_as_its_session_did(self, running):
        session = await running.open()
        for event in EPISODES[:6]:
            await session.send(event)
        answer = await session.send(begin(7))
        context = (await session.close()).context
        acted = await running.stub.Act(
            pb.ActRequest(context=context, observation=[0.5, -0.5], phase=pb.PHASE_EXECUTE), timeout=LIMIT_S
        )
        assert list(answer.action) == list(acted.action)
        assert answer.certainty == acted.certainty

    async def test_encoding_folds_what_a_session_folds(self, running):
        session = await running.open()
        action = (await session.send(begin(1))).action
        await session.send(moved(2))
        row = pb.EncodedTransition(observation=[0.5, -0.5], action=action, reward=1.0, next_observation=[0.25, 0.25])
        encoded = await running.stub.Encode(pb.EncodeRequest(transitions=[row]), timeout=LIMIT_S)
        assert list((await session.close()).context.belief) == list(encoded.context.belief)

    async def test_encoding_in_parts_gives_one_context(self, running):
        rows = [
            pb.EncodedTransition(observation=[0.1 * i, 0.0], action=[0.0, 0.1], reward=0.5, next_observation=[0.2, 0.1])
            for i in range(600)
        ]
        at_once = await running.stub.Encode(pb.EncodeRequest(transitions=rows), timeout=LIMIT_S)
        first = await running.stub.Encode(pb.EncodeRequest(transitions=rows[:7]), timeout=LIMIT_S)
        both = await running.stub.Encode(pb.EncodeRequest(context=first.context, transitions=rows[7:]), timeout=LIMIT_S)
        np.testing.assert_allclose(at_once.context.belief, both.context.belief, rtol=1e-5)

    async def test_an_act_with_nothing_known_is_the_prior_and_explores_if_asked(self, running):
        for phase in (pb.PHASE_EXPLORE, pb.PHASE_EXECUTE, pb.PHASE_UNSPECIFIED):
            request = pb.ActRequest(observation=[0.5, 0.5], phase=phase, noise=[0.0, 1.0])
            assert 2 == len((await running.stub.Act(request, timeout=LIMIT_S)).action)

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            (pb.ActRequest(observation=[1.0]), "observation: expected 2 values"),
            (pb.ActRequest(observation=[1.0, 1.0], noise=[1.0]), "noise: expected 2 finite numbers"),
            (pb.ActRequest(observation=[1.0, 1.0], phase=pb.PHASE_CLOSED), "phase: expected"),
            (
                pb.ActRequest(observation=[1.0, 1.0], context=pb.Context(bundle_digest="5c" * 32, belief=[1.0])),
                "belief: expected 4",
            ),
        ],
    )
    async def test_a_request_that_does_not_fit_is_refused(self, running, request_, message):
        code, kind, details = await refused(running.stub.Act(request_, timeout=LIMIT_S))
        assert (grpc.StatusCode.INVALID_ARGUMENT, "SpecError") == (code, kind)
        assert message in details

    async def test_a_transition_that_does_not_fit_is_named(self, running):
        good = pb.EncodedTransition(observation=[0, 0], action=[0, 0], next_observation=[0, 0])
        bad = pb.EncodedTransition(observation=[0, 0], action=[0], next_observation=[0, 0])
        call = running.stub.Encode(pb.EncodeRequest(transitions=[good, bad]), timeout=LIMIT_S)
        assert "transition 1: action" in (await refused(call))[2]

    async def test_a_foreign_context_is_refused(self, running):
        foreign = pb.Context(bundle_digest="ff" * 32, belief=[1, 1, 0, 0])
        for call in (
            running.stub.Act(pb.ActRequest(context=foreign, observation=[0, 0]), timeout=LIMIT_S),
            running.stub.Encode(pb.EncodeRequest(context=foreign), timeout=LIMIT_S),
        ):
            assert "ContextMismatchError" == (await refused(call))[1]

    async def test_too_many_transitions_are_refused(self, running):
        rows = [pb.EncodedTransition()] * 10_001
        code, _, details = await refused(running.stub.Encode(pb.EncodeRequest(transitions=rows), timeout=LIMIT_S))
        assert grpc.StatusCode.INVALID_ARGUMENT is code
        assert "at most 10000" in details


class TestLife:
    async def health(self, running, service=SERVICE):
        stub = health_pb2_grpc.HealthStub(running.channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT_S)).status

    async def test_a_running_server_is_healthy(self, running):
        for service in ("", SERVICE):
            assert health_pb2.HealthCheckResponse.SERVING == await self.health(running, service)

    async def test_reflection_names_the_service(self, running):
        stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
        requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
        async for response in stub.ServerReflectionInfo(iter(requests), timeout=LIMIT_S):
            assert SERVICE in [service.name for service in response.list_services_response.service]

    async def test_draining_waits_for_episodes_under_way_and_begins_none(self, running):
        session = await running.open()
        await session.send(begin(1))
        drained = asyncio.create_task(running.server.drain())
        await asyncio.sleep(0)
        while health_pb2.HealthCheckResponse.SERVING == await self.health(running):
            await asyncio.sleep(0)
        assert (await session.send(moved(2))).draining
        code, kind, _ = await refused(running.open())
        assert (grpc.StatusCode.UNAVAILABLE, "ServerUnreachableError") == (code, kind)
        assert not drained.done()
        await session.send(moved(3, terminated=True))
        assert await drained
        assert grpc.StatusCode.UNAVAILABLE is (await refused(session.send(begin(4))))[0]

    async def test_draining_gives_up_after_its_time(self, capfd):
        async with bench(drain_s=0.0, log_level="info") as hasty:
            session = await hasty.open()
            await session.send(begin(1))
            assert not await hasty.server.drain()
        assert "event='waiting for episodes to end' at_most_s=0.0" in capfd.readouterr().err

    async def test_a_token_is_wanted_of_every_call_but_probes(self, tmp_path):
        (tmp_path / "token").write_text("a-long-enough-secret\n")
        async with bench(token_file=tmp_path / "token") as guarded:
            assert health_pb2.HealthCheckResponse.SERVING == await self.health(guarded)
            for metadata in ((), (("authorization", "Bearer guess"),)):
                call = guarded.stub.DescribeAgent(pb.DescribeAgentRequest(), metadata=metadata, timeout=LIMIT_S)
                code, kind, _ = await refused(call)
                assert (grpc.StatusCode.UNAUTHENTICATED, "UnauthenticatedError") == (code, kind)
            stream = guarded.stub.Session(timeout=LIMIT_S)
            assert grpc.StatusCode.UNAUTHENTICATED is (await refused(stream.read()))[0]
            assert {"UNAUTHENTICATED": 3} == guarded.server.hosting.metrics.refused
            metadata = (("authorization", "Bearer a-long-enough-secret"),)
            await guarded.stub.DescribeAgent(pb.DescribeAgentRequest(), metadata=metadata, timeout=LIMIT_S)

    async def test_a_session_that_goes_safe_is_in_the_log_once(self, capfd):
        policy = ScriptedPolicy(K2)
        manifest = manifest_of(policy, safety=SafetyLimits(max_rate=(0.01, 0.01)))
        agent = served(policy)
        watched = {"max_interventions": 1, "log_level": "warning"}
        async with bench(type(agent)(policy, manifest, agent.digest), **watched) as limited:
            session = await limited.open()
            for event in (begin(1), moved(2, observation=(-3.0, 3.0)), moved(3, observation=(3.0, -3.0))):
                answer = await session.send(event)
        assert pb.SAFE_REASON_INTERVENTIONS == answer.safe_reason
        (line,) = capfd.readouterr().err.splitlines()
        assert line.endswith(f"event='session is SAFE' session_id='{session.opened.session_id}' why='interventions'")

    async def test_limits_of_the_manifest_hold_on_the_wire(self):
        policy = ScriptedPolicy(K2)
        manifest = manifest_of(policy, safety=SafetyLimits(max_rate=(0.01, 0.01)))
        agent = served(policy)
        async with bench(type(agent)(policy, manifest, agent.digest)) as limited:
            session = await limited.open()
            before = (await session.send(begin(1))).action
            after = await session.send(moved(2, observation=(-3.0, 3.0)))
        np.testing.assert_allclose(before, after.action, atol=0.0101)
        assert [pb.GUARD_INTERVENTION_RATE] == list(after.interventions)
