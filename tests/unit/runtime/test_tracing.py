"""Laws of traces: off unless asked for; a sampled stream's steps are spans with stages; nothing internal is told."""

import subprocess
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace

import grpc
import pytest

from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError, DependencyMissingError
from ccm_runtime.server import Server
from ccm_runtime.testing import ScriptedPolicy, served
from ccm_runtime.traces import Stages, tracing_of
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

pytest.importorskip("opentelemetry.sdk")

import itertools

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from ccm_runtime.tracing import Tracing

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["ccm.queue", "ccm.networks", "ccm.guard", "ccm.answer"]


@asynccontextmanager
async def traced():
    """Serve with traces; yield a stub and what was exported."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    server = Server(served(ScriptedPolicy()), ServerConfig(port=0, log_level="error"), tracing=Tracing(provider))
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield SimpleNamespace(
            stub=AdaptationStub(channel), spans=exporter.get_finished_spans, server=server, stop=server.stop
        )
    await server.stop()


def begin(sequence, observation=(0.0, 0.0)):
    return pb.Event(sequence=sequence, begin_episode=pb.BeginEpisode(observation=observation))


def moved(sequence):
    return pb.Event(sequence=sequence, transition=pb.Transition(observation=(0.5, 0.5), reward=1.0))


async def stream(server, *events, metadata=()):
    """Open a session over a stream, tell it events, close it; return the responses."""
    call = server.stub.Session(metadata=metadata)
    requests = [
        pb.SessionRequest(open=pb.OpenSessionRequest()),
        *(pb.SessionRequest(event=event) for event in events),
        pb.SessionRequest(close=pb.CloseSessionRequest()),
    ]
    responses = []
    for request in requests:
        await call.write(request)
        responses.append(await call.read())
    await call.done_writing()
    assert grpc.StatusCode.OK is await call.code()
    return responses


async def test_a_stream_is_a_span_below_its_callers_with_its_steps_and_their_stages_in_it():
    async with traced() as server:
        responses = await stream(server, begin(1), moved(2), metadata=(("traceparent", f"00-{TRACE}-{CALLER}-01"),))
    spans = server.spans()
    assert {TRACE} == {f"{span.context.trace_id:032x}" for span in spans}
    by_name = {span.name: span for span in spans}
    whole = by_name["ccm.stream"]
    assert CALLER == f"{whole.parent.span_id:016x}"
    assert responses[0].opened.session_id == whole.attributes["ccm.session_id"]
    inside = [span.name for span in spans if span.parent.span_id == whole.context.span_id]
    assert ["ccm.open", "ccm.step", "ccm.step", "ccm.close"] == inside
    for step, response in zip([span for span in spans if span.name == "ccm.step"], responses[1:3], strict=True):
        assert (response.answer.sequence, "PHASE_EXPLORE") == (
            step.attributes["ccm.sequence"], step.attributes["ccm.phase"],
        )  # fmt: skip
        stages = [span for span in spans if span.parent.span_id == step.context.span_id]
        assert STAGES == [span.name for span in stages]
        assert step.start_time == stages[0].start_time
        for before, after in itertools.pairwise(stages):
            assert before.end_time == after.start_time
        lasted_ms = [(span.end_time - span.start_time) / 1e6 for span in stages]
        assert response.answer.timing.infer_ms == pytest.approx(lasted_ms[1], abs=1e-3)
        assert response.answer.timing.total_ms == pytest.approx(sum(lasted_ms[:3]), abs=1e-3)


async def test_a_stream_whose_caller_is_not_sampled_leaves_no_span():
    async with traced() as server:
        await stream(server, begin(1), moved(2), metadata=(("traceparent", f"00-{TRACE}-{CALLER}-00"),))
        assert () == server.spans()
        await stream(server, begin(1))
    assert server.spans()


async def test_a_refusal_is_told_by_its_reason_alone():
    async with traced() as server:
        await stream(server, begin(1, observation=(1.0, 2.0, 3.0)))
        with pytest.raises(grpc.RpcError):
            await server.stub.Step(pb.StepRequest(session_id="nobody", token="no token", event=begin(1)))  # noqa: S106
    refused = {span.name: span.status for span in server.spans() if span.status.status_code is StatusCode.ERROR}
    assert {"ccm.step": "SPEC", "ccm.call": "SESSION_UNKNOWN"} == {
        name: status.description for name, status in refused.items()
    }
    assert all(not span.events for span in server.spans())


async def test_calls_without_a_stream_are_spans_too():
    async with traced() as server:
        opened = await server.stub.OpenSession(pb.OpenSessionRequest())
        own = {"session_id": opened.session_id, "token": opened.token}
        await server.stub.Step(pb.StepRequest(**own, event=begin(1)))
        await server.stub.CloseSession(pb.CloseSessionRequest(**own))
    names = [span.name for span in server.spans()]
    assert ["ccm.open", *STAGES, "ccm.step", "ccm.call", "ccm.close"] == names
    assert opened.token not in str([span.to_json() for span in server.spans()])


def test_stages_of_sessions_that_nobody_watches_are_not_kept():
    stages = Stages()
    stages.note("nobody", 1.0)
    assert stages.take("nobody") is None
    stages.watch("somebody")
    stages.note("somebody", 0.5)
    assert (500.0, None) == (stages.take("somebody"), stages.take("somebody"))


@pytest.mark.parametrize(
    ("environ", "asked", "on"),
    [
        ({}, False, False),
        ({"OTEL_SERVICE_NAME": "robots"}, False, False),
        ({}, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, False, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, True, False),
        ({"OTEL_SDK_DISABLED": "true"}, True, False),
    ],
)
def test_traces_are_off_unless_asked_for(environ, asked, on):
    tracing = tracing_of(environ, asked=asked)
    assert on is (tracing is not None)
    if tracing is not None:
        tracing._provider.shutdown()


def test_an_exporter_that_there_is_not_is_named():
    with pytest.raises(ConfigError, match="expected otlp, console or none, got 'zipkin'"):
        tracing_of({"OTEL_TRACES_EXPORTER": "zipkin"}, asked=False)


def test_without_the_extra_the_flag_says_what_to_install_and_a_variable_warns(monkeypatch):
    monkeypatch.setitem(sys.modules, "ccm_runtime.tracing", None)
    with pytest.raises(DependencyMissingError, match=r"--otel needs OpenTelemetry: pip install 'ccm\[otel\]'"):
        tracing_of({}, asked=True)
    with pytest.warns(UserWarning, match="no traces: OTEL_TRACES_EXPORTER needs OpenTelemetry"):
        assert tracing_of({"OTEL_TRACES_EXPORTER": "otlp"}, asked=False) is None


def test_a_server_without_traces_loads_nothing_of_opentelemetry():
    script = (
        "import sys\nimport ccm_runtime.server as s\nassert s.tracing_of({}, asked=False) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (0, "") == (finished.returncode, finished.stderr)
