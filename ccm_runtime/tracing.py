"""OpenTelemetry traces of a server. Needs the extra `otel`; without traces, nothing in here is ever imported.

A stream is one span, below its caller's where the call's metadata holds a W3C `traceparent`. The sampler decides once
for each stream: only in one that is sampled are steps spans too, with their stages below them.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ccm_runtime import __version__, statuses
from ccm_runtime.answering import Call
from ccm_runtime.errors import ConfigError
from ccm_runtime.hosting import Hosting
from ccm_runtime.messages import Opened
from ccm_runtime.service import Service
from ccm_runtime.traces import Stages
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.worker import beside

_PARENT = TraceContextTextMapPropagator()
_STOP_S = 2.0


def provider_of(environ: Mapping[str, str]) -> TracerProvider:
    """Return what exports spans as the `OTEL_` variables say; by default by OTLP over gRPC to localhost:4317.

    Raises:
        ConfigError: OTEL_TRACES_EXPORTER names an exporter that there is not.
    """
    named = environ.get("OTEL_TRACES_EXPORTER", "otlp")
    service = {} if "OTEL_SERVICE_NAME" in environ else {"service.name": "ccm"}
    resource = Resource.create({**service, SERVICE_VERSION: __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # which would wait for a collector that hangs
    provider.add_span_processor(BatchSpanProcessor(_exporter(named)))
    return provider


def _exporter(named: str) -> SpanExporter:
    if named == "console":
        return ConsoleSpanExporter()
    if named == "otlp":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        return OTLPSpanExporter()
    raise ConfigError(f"OTEL_TRACES_EXPORTER: expected otlp, console or none, got {named!r}")


class Tracing:
    """Where spans go.

    Attributes:
        tracer: Makes them.
        stages: What the server's core notes of steps that are traced.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self.tracer = provider.get_tracer("ccm_runtime", __version__)
        self.stages = Stages()
        self._provider = provider

    def service(self, hosting: Hosting, max_calls: int) -> Service:
        """Return the service, traced."""
        return TracedService(hosting, max_calls, self)

    async def stop(self) -> None:
        """Export what is left, for a moment: a collector that hangs keeps nothing from ending."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await beside("ccm-traces", self._provider.shutdown)


class TracedService(Service):
    """The service with a span for each stream, for each call that has no stream, and for what happens in them."""

    def __init__(self, hosting: Hosting, max_calls: int, tracing: Tracing) -> None:
        super().__init__(hosting, max_calls)
        self._tracer = tracing.tracer
        self._stages = tracing.stages

    async def Session(self, requests: object, context: Call) -> None:
        """Serve a session over one stream."""
        with self._call("ccm.stream", context):
            await super().Session(requests, context)

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Call) -> pb.OpenSessionResponse:
        """Begin a trial."""
        with self._call("ccm.open", context) as span:
            response = await super().OpenSession(request, context)
            span.set_attribute("ccm.session_id", response.session_id)
            return response

    async def Step(self, request: pb.StepRequest, context: Call) -> pb.StepResponse:
        """Take one event of a session."""
        with self._call("ccm.call", context):
            return await super().Step(request, context)

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Call) -> pb.CloseSessionResponse:
        """End a trial."""
        with self._call("ccm.close", context) as span:
            span.set_attribute("ccm.session_id", request.session_id)
            return await super().CloseSession(request, context)

    async def refuse(self, context: Call, error: Exception) -> Any:
        """End a call with the status of `error`."""
        _refused(trace.get_current_span(), error)
        await super().refuse(context, error)

    async def _attach(self, context: Call) -> Opened:
        stream = trace.get_current_span()
        with self._tracer.start_as_current_span("ccm.open", record_exception=False, set_status_on_exception=False):
            opened = await super()._attach(context)
        stream.set_attributes(
            {
                "ccm.session_id": opened.session_id,
                "ccm.agent_id": opened.agent.agent_id,
                "ccm.bundle": opened.agent.bundle_digest,
                "ccm.next_sequence": opened.next_sequence,
            }
        )
        return opened

    def _close(self, opened: Opened) -> pb.CloseSessionResponse:
        with self._tracer.start_as_current_span("ccm.close"):
            return super()._close(opened)

    async def _step(self, session_id: str, message: pb.Event, answer: pb.Answer) -> None:
        if not trace.get_current_span().is_recording():
            await super()._step(session_id, message, answer)
            return
        self._stages.watch(session_id)
        span = self._tracer.start_span("ccm.step", attributes={"ccm.sequence": message.sequence})
        began_ns = _began_ns(span)
        try:
            await super()._step(session_id, message, answer)
        except Exception as error:
            _refused(span, error)
            raise
        else:
            self._tell_stages(span, began_ns, self._stages.take(session_id), answer)
        finally:
            self._stages.take(session_id)
            span.end()

    def _tell_stages(self, span: Span, began_ns: int, spent_ms: float | None, answer: pb.Answer) -> None:
        """Add what the answer says, and the stages of the step one after the other, to its span."""
        span.set_attributes(
            {
                "ccm.phase": pb.Phase.Name(answer.phase),
                "ccm.episode": answer.episode,
                "ccm.step": answer.step,
                "ccm.novelty": answer.novelty,
                "ccm.interventions": [pb.GuardIntervention.Name(kind) for kind in answer.interventions],
            }
        )
        total_ms, infer_ms = answer.timing.total_ms, answer.timing.infer_ms
        spent_ms = total_ms if spent_ms is None else min(spent_ms, total_ms)  # late: all of it was waiting
        parent = trace.set_span_in_context(span)
        at_ns = began_ns
        stages = [("queue", spent_ms - infer_ms), ("networks", infer_ms), ("guard", total_ms - spent_ms)]
        for name, ms in stages:
            stage = self._tracer.start_span(f"ccm.{name}", context=parent, start_time=at_ns)
            at_ns += int(max(ms, 0.0) * 1e6)
            stage.end(at_ns)
        self._tracer.start_span("ccm.answer", context=parent, start_time=at_ns).end()

    @contextmanager
    def _call(self, name: str, context: Call) -> Iterator[Span]:
        """Trace a call, below its caller's span if it names one."""
        carrier = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        with self._tracer.start_as_current_span(
            name,
            context=_PARENT.extract(carrier),
            kind=SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span


def _refused(span: Span, error: Exception) -> None:
    """Note the reason of a refusal, as clients are told it; what is no error of ours is not told."""
    reason, _, _ = statuses.classify(error)
    span.set_status(Status(StatusCode.ERROR, reason))


def _began_ns(span: Span) -> int:
    began: int = getattr(span, "start_time", 0)
    return began
