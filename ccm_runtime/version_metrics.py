"""Metrics of the versions of a server's agents: what serves, with which role, and how it fares."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ccm_runtime.roster import Roster
from ccm_runtime.session import SessionTable

if TYPE_CHECKING:
    from prometheus_client import Metric

_LABELS = ("agent", "version")


def version_metrics(roster: Roster, table: SessionTable) -> Iterator["Metric"]:
    """Yield the metrics of every version that is loaded."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 (only when someone looks)

    loaded = [((version.agent.name, version.name), version) for version in roster.versions]
    info = GaugeMetricFamily(
        "ccm_agent_info",
        "What is served, and where its networks truly run; always 1.",
        labels=(*_LABELS, "role", "agent_id", "bundle", "device"),
    )
    for labels, version in loaded:
        more = (roster.role(version).value, version.agent.agent_id, version.digest, version.device)
        info.add_metric((*labels, *more), 1.0)
    yield info
    failed = GaugeMetricFamily(
        "ccm_device_failed", "1: the GPU of a version failed; its device says what it goes on with.", labels=_LABELS
    )
    for labels, version in loaded:
        failed.add_metric(labels, float(bool(version.failure)))
    yield failed
    num_on = Counter(session.bundle_digest for session in list(table))
    sessions = GaugeMetricFamily("ccm_version_sessions", "Sessions that a version steps.", labels=_LABELS)
    returns = GaugeMetricFamily("ccm_version_mean_return", "Mean return of a version's episodes.", labels=_LABELS)
    for labels, version in loaded:
        sessions.add_metric(labels, num_on[version.digest])
        returns.add_metric(labels, version.tally.mean_return)
    yield from (sessions, returns)
    for name, text in (
        ("opened", "Sessions that were opened with a version."),
        ("episodes", "Episodes that ended with a version."),
        ("interventions", "Actions of a version that the guard mended."),
        ("misses", "Of these, late or not finite ones."),
        ("failures", "Events that a version's networks failed at."),
    ):
        counter = CounterMetricFamily(f"ccm_version_{name}", text, labels=_LABELS)
        for labels, version in loaded:
            counter.add_metric(labels, getattr(version.tally, f"num_{name}"))
        yield counter
