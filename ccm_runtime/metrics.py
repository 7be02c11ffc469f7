"""Metrics of a server, for Prometheus. Counting costs an addition; everything else happens when someone looks."""

from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from ccm_runtime.batching import Stepper
from ccm_runtime.errors import ConfigError, DependencyMissingError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.session import SessionTable

if TYPE_CHECKING:
    from prometheus_client import Metric

_STEP_BOUNDS_MS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, float("inf"))


class Metrics:
    """Counts of a server's life, and a collector of them."""

    def __init__(self, table: SessionTable, stepper: Stepper, group_commit: GroupCommit | None = None) -> None:
        self._group_commit = group_commit
        self._table = table
        self._stepper = stepper
        self._step_ms = [0] * len(_STEP_BOUNDS_MS)
        self._total_step_ms = 0.0
        self.num_opened = 0
        self.refused: Counter[str] = Counter()

    def stepped(self, total_ms: float) -> None:
        """Count an answer that took `total_ms`."""
        bucket = next(i for i, bound in enumerate(_STEP_BOUNDS_MS) if total_ms <= bound)
        self._step_ms[bucket] += 1
        self._total_step_ms += total_ms

    def collect(self) -> Iterator["Metric"]:
        """Yield every metric, as Prometheus asks for them."""
        from prometheus_client.core import (  # noqa: PLC0415 (only when someone looks)
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        yield GaugeMetricFamily("ccm_sessions", "Sessions that are held.", value=len(self._table))
        yield CounterMetricFamily("ccm_sessions_opened", "Sessions that were opened.", value=self.num_opened)
        yield CounterMetricFamily("ccm_steps", "Events that were answered.", value=self._stepper.num_steps)
        yield CounterMetricFamily("ccm_batches", "Runs over one or more sessions.", value=self._stepper.num_batches)
        refused = CounterMetricFamily("ccm_refused", "Calls and events that were refused.", labels=["reason"])
        for reason, count in self.refused.items():
            refused.add_metric([reason], count)
        yield refused
        if self._group_commit is not None:
            counts = self._group_commit.counts
            well, unsaved = float(self._group_commit.well), self._group_commit.num_unsaved
            yield GaugeMetricFamily("ccm_store_well", "1: sessions are made durable; 0: the store fails.", value=well)
            yield GaugeMetricFamily("ccm_store_unsaved", "Sessions that wait to be written.", value=unsaved)
            yield CounterMetricFamily("ccm_store_commits", "Groups that were written.", value=counts.num_commits)
            yield CounterMetricFamily("ccm_store_records", "Sessions in those groups.", value=counts.num_records)
            yield CounterMetricFamily("ccm_store_failures", "Groups that failed.", value=counts.num_failures)
        histogram = HistogramMetricFamily("ccm_step_ms", "Milliseconds from an event's arrival to its answer.")
        histogram.add_metric([], self._buckets(), self._total_step_ms)
        yield histogram

    def _buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative histogram."""
        total, buckets = 0, []
        for bound, count in zip(_STEP_BOUNDS_MS, self._step_ms, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return buckets


def expose(metrics: Metrics, host: str, port: int) -> Callable[[], None]:
    """Serve the metrics at `http://host:port/metrics` from a thread; return what stops it.

    Raises:
        ConfigError: The address cannot be listened on.
        DependencyMissingError: prometheus-client is not installed.
    """
    try:
        prometheus = import_module("prometheus_client")
    except ImportError:
        raise DependencyMissingError("--metrics-port needs prometheus-client: pip install 'ccm[serve]'") from None
    registry = prometheus.CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = prometheus.start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigError(
            f"cannot serve metrics at {host}:{port}: {error.strerror}; choose another --metrics-port"
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
