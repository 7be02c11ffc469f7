"""Traces of a serving process by OTLP over gRPC: to a collector that listens, to one that hangs, and to none."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

LIMIT_S = 30.0
STOP_S = 25.0  # of a busy machine; traces have a moment, where a collector is given a minute
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(otlp_grpc.TraceServiceServicer):
    """Keeps what it is sent; or hangs, once asked, until let go."""

    def __init__(self, *, hangs):
        self.received, self.asked, self.let_go = [], threading.Event(), threading.Event()
        self._hangs = hangs

    def Export(self, request, context):  # noqa: N802 (the contract names it)
        self.received.append(request)
        self.asked.set()
        if self._hangs:
            self.let_go.wait(LIMIT_S)
        return otlp.ExportTraceServiceResponse()


@contextmanager
def collecting(*, hangs=False):
    """Yield a collector and its address."""
    collector, server = Collector(hangs=hangs), grpc.server(ThreadPoolExecutor(4))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"127.0.0.1:{port}"
    collector.let_go.set()
    server.stop(grace=0).wait(LIMIT_S)


def stepped(bundle, collector):
    """Serve with traces; yield what a stream of two steps was answered, then stop: how long that took, code, words."""
    environ = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",  # ms
        "OTEL_EXPORTER_OTLP_TIMEOUT": "60",  # s
    }
    command = [sys.executable, "-m", "ccm_runtime", "serve", str(bundle), "--port", "0", "--otel"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = next(found[1] for line in process.stderr if (found := re.search(r"on (127\.0\.0\.1:\d+)", line)))
            with grpc.insecure_channel(address) as channel:
                metadata = (("traceparent", f"00-{TRACE}-{CALLER}-01"),)
                requests = [
                    pb.SessionRequest(open=pb.OpenSessionRequest()),
                    pb.SessionRequest(event=pb.Event(sequence=1, begin_episode=pb.BeginEpisode(observation=[0, 0]))),
                    pb.SessionRequest(event=pb.Event(sequence=2, transition=pb.Transition(observation=[1, 1]))),
                    pb.SessionRequest(close=pb.CloseSessionRequest()),
                ]
                responses = list(AdaptationStub(channel).Session(iter(requests), metadata=metadata, timeout=LIMIT_S))
            yield responses
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=LIMIT_S)
            yield time.monotonic() - began, process.returncode, said
        finally:
            process.kill()  # if it is there still, as a test failed


def spans_of(collector):
    """Return all that was received, by name, and the attributes of who sent it."""
    sent = [resource for request in collector.received for resource in request.resource_spans]
    spans = [span for resource in sent for scope in resource.scope_spans for span in scope.spans]
    who = {entry.key: entry.value.string_value for entry in sent[0].resource.attributes}
    return spans, who


def test_a_collector_receives_every_step_of_a_stream_below_its_callers_span(tiny_bundle):
    with collecting() as (collector, address):
        responses, (_, code, _) = stepped(tiny_bundle, address)
    spans, who = spans_of(collector)
    assert [0, 4] == [code, len(responses)]
    assert "ccm" == who["service.name"]
    assert {TRACE} == {span.trace_id.hex() for span in spans}
    (stream,) = (span for span in spans if span.name == "ccm.stream")
    assert CALLER == stream.parent_span_id.hex()
    inside = [span.name for span in spans if span.parent_span_id == stream.span_id]
    assert ["ccm.close", "ccm.open", "ccm.step", "ccm.step"] == sorted(inside)


def test_a_collector_that_hangs_holds_up_neither_steps_nor_the_end(tiny_bundle):
    with collecting(hangs=True) as (collector, address):
        stages = stepped(tiny_bundle, address)
        responses = next(stages)
        assert collector.asked.wait(LIMIT_S)
        took_s, code, _ = next(stages)
    assert [0, 4] == [code, len(responses)]
    assert took_s < STOP_S


def test_no_collector_at_all_holds_up_neither_steps_nor_the_end(tiny_bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    responses, (took_s, code, said) = stepped(tiny_bundle, nobody)
    assert [0, 4] == [code, len(responses)]
    assert took_s < STOP_S
    assert "Traceback" not in said
