"""Metrics of a server, for Prometheus. Counting costs an addition; everything else happens when someone looks."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING

from ccm_runtime.condition import Condition, condition_of
from ccm_runtime.errors import DependencyMissingError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.messages import Answer, Intervention, SafeReason
from ccm_runtime.recorder import Recorder
from ccm_runtime.roster import Roster
from ccm_runtime.session import Session, SessionTable
from ccm_runtime.shadow import Shadow, shadow_metrics
from ccm_runtime.sharing import Sharing
from ccm_runtime.trial import Phase
from ccm_runtime.version_metrics import version_metrics
from ccm_runtime.web import Reply, Request, Web

if TYPE_CHECKING:
    from prometheus_client import Metric

BOUNDS_MS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)


class Histogram:
    """Counts of durations by size."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0

    def add(self, ms: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BOUNDS_MS, ms)] += 1
        self.sum_ms += ms

    def buckets(self) -> list[tuple[str, float]]:
        """Return upper bounds and how many are within them."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_MS), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class Metrics:
    """Counts of a server's life, and a collector of them; docs/reference/metrics.md tells what each one means.

    Args:
        table: The sessions.
        roster: The agents, and what steps the sessions.
        group_commit: What makes them durable, if anything does.
        recorder: What writes down their events, if anything does.

    Attributes:
        count_tasks: Tells the tasks of the server's event loop.
        loop_turns: Tells whether that loop answers; asked by another thread.
        step_ms: From events' arrival to their answers.
        infer_ms: Of that, inside the networks.
        interventions: What the guard had to mend in actions, by kind.
        num_opened: Sessions that were opened.
        refused: Calls and events that were refused, by reason.
    """

    def __init__(
        self,
        table: SessionTable,
        roster: Roster,
        group_commit: GroupCommit | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._group_commit = group_commit
        self._recorder = recorder
        self.shadow: Shadow | None = None
        self.sharing: Sharing | None = None
        self._table = table
        self._roster = roster
        self.step_ms, self.infer_ms = Histogram(), Histogram()
        self.interventions = dict.fromkeys(Intervention, 0)
        self.num_opened = 0
        self.count_tasks: Callable[[], int] = lambda: 0
        self.loop_turns: Callable[[], bool] = lambda: True
        self.refused: Counter[str] = Counter()

    def stepped(self, answer: Answer) -> None:
        """Count an answer."""
        self.step_ms.add(answer.total_ms)
        self.infer_ms.add(answer.infer_ms)
        self.mended(answer.reaction.interventions)

    def mended(self, interventions: Iterable[Intervention]) -> None:
        """Count what the guard had to mend in an action."""
        for intervention in interventions:
            self.interventions[intervention] += 1

    def collect(self) -> Iterator["Metric"]:
        """Yield every metric, as Prometheus asks for them."""
        yield from self._sessions()
        yield _counter("ccm_sessions_opened", "Sessions that were opened.", self.num_opened)
        yield _counter("ccm_steps", "Events that were answered.", self._roster.num_steps)
        yield _counter("ccm_batches", "Runs over one or more sessions.", self._roster.num_batches)
        yield _histogram("ccm_step_ms", "Milliseconds from an event's arrival to its answer.", self.step_ms)
        yield _histogram("ccm_infer_ms", "Milliseconds of that inside the networks.", self.infer_ms)
        interventions = {kind.value: count for kind, count in self.interventions.items()}
        yield _counters("ccm_interventions", "What the guard had to mend in actions.", "kind", interventions)
        yield _counters("ccm_refused", "Calls and events that were refused.", "reason", dict(self.refused))
        yield from self._store()
        if self._recorder is not None:
            yield _counter("ccm_recorded", "Events that were recorded.", self._recorder.num_recorded)
            yield _counter("ccm_recording_dropped", "Events that were not.", self._recorder.num_dropped)
        if self.shadow is not None:
            yield from shadow_metrics(self.shadow)
        yield _gauge("ccm_tasks", "Tasks of the server's event loop.", self.count_tasks())
        yield _gauge("ccm_draining", "1: the server is shutting down.", float(self._roster.draining))
        yield from version_metrics(self._roster, self._table)

    def condition(self) -> Condition:
        """Return how the server is; from any thread."""
        return condition_of(self._roster, self._group_commit)

    def live(self) -> Reply:
        """Answer whoever asks whether to let the server go on."""
        dead = self.condition().dead
        if not dead and not self.loop_turns():
            dead = ("the server does not answer; start it again",)
        return _told(dead) if dead else _told(("live",), HTTPStatus.OK)

    def ready(self) -> Reply:
        """Answer whoever asks whether to send clients."""
        found = self.condition()
        if not found.ready:
            return _told((*found.dead, *found.away))
        return _told(("degraded", *found.degraded) if found.degraded else ("ready",), HTTPStatus.OK)

    def _sessions(self) -> Iterator["Metric"]:
        """Yield what is known of the sessions that are held."""
        sessions = list(self._table)
        held = {
            phase: [s for s in sessions if s.memory.trial.phase is phase] for phase in (Phase.EXPLORE, Phase.EXECUTE)
        }
        counts = {phase.value: float(len(of)) for phase, of in held.items()}
        yield _gauges("ccm_sessions", "Sessions that are held.", "phase", counts)
        certainties = {phase.value: _mean_certainty(of) for phase, of in held.items()}
        yield _gauges("ccm_certainty", "Mean certainty of the sessions' beliefs, 0 to 1.", "phase", certainties)
        safe = Counter(s.vigil.safe for s in sessions)
        reasons = {reason.value: float(safe[reason]) for reason in SafeReason}
        yield _gauges("ccm_sessions_safe", "SAFE sessions: they are given the fallback alone.", "reason", reasons)
        owed = sum(len(s.memory.owed) for s in sessions)
        yield _gauge("ccm_owed", "Transitions that were answered but are not in their beliefs yet.", owed)
        novel = sum(s.last_answer is not None and s.last_answer.reaction.novelty > 1.0 for s in sessions)
        yield _gauge("ccm_sessions_novel", "Sessions that see what 97 % of trials on training tasks never show.", novel)

    def _store(self) -> Iterator["Metric"]:
        if self._group_commit is None:
            return
        counts = self._group_commit.counts
        well = float(self._group_commit.well)
        yield _gauge("ccm_store_well", "1: sessions are made durable; 0: the store fails.", well)
        yield _gauge("ccm_store_unsaved", "Sessions that wait to be written.", self._group_commit.num_unsaved)
        yield _counter("ccm_store_commits", "Groups that were written.", counts.num_commits)
        yield _counter("ccm_store_records", "Sessions in those groups.", counts.num_records)
        yield _counter("ccm_store_failures", "Groups that failed.", counts.num_failures)
        if self.sharing is not None:
            shared = self.sharing.counts
            yield _counter("ccm_sessions_taken", "Sessions that came from other servers.", shared.num_taken)
            yield _counter("ccm_sessions_given", "Sessions that went to other servers.", shared.num_given)


def _told(lines: Iterable[str], status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE) -> Reply:
    return Reply("".join(f"{line}\n" for line in lines).encode(), status)


def _mean_certainty(sessions: list[Session]) -> float:
    known = [session.last_answer.reaction.certainty for session in sessions if session.last_answer is not None]
    return sum(known) / len(known) if known else 0.0


def _gauge(name: str, text: str, value: float) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 (only when someone looks)

    return GaugeMetricFamily(name, text, value=value)


def _gauges(name: str, text: str, label: str, values: dict[str, float]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, text: str, value: float) -> "Metric":
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415

    return CounterMetricFamily(name, text, value=value)


def _counters(name: str, text: str, label: str, values: dict[str, int]) -> "Metric":
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415

    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    return HistogramMetricFamily(name, text, buckets=histogram.buckets(), sum_value=histogram.sum_ms)


def expose(metrics: Metrics, host: str, port: int) -> Callable[[], None]:
    """Serve `/metrics`, and `/live` and `/ready` for probes, over plain HTTP from threads; return what stops it.

    Raises:
        ConfigError: The address cannot be listened on.
        DependencyMissingError: prometheus-client is not installed.
    """
    try:
        prometheus = import_module("prometheus_client")
        choose_encoder = import_module("prometheus_client.exposition").choose_encoder
    except ImportError:
        raise DependencyMissingError("--metrics-port needs prometheus-client: pip install 'ccm[serve]'") from None
    registry = prometheus.CollectorRegistry()
    registry.register(metrics)

    def answer(request: Request) -> Reply:
        if request.path == "/metrics":
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
            return Reply(encode(registry), content_type=content_type)
        probe = {"/live": metrics.live, "/ready": metrics.ready}.get(request.path)
        return Reply(status=HTTPStatus.NOT_FOUND) if probe is None else probe()

    return Web(host, port, answer, setting="--metrics-port").stop
