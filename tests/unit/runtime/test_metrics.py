from prometheus_client import CollectorRegistry, generate_latest

from ccm_runtime.adapt import Adapter
from ccm_runtime.batching import Stepper
from ccm_runtime.metrics import Metrics
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy


def test_metrics_tell_what_happened():
    adapter, table = Adapter.of(ScriptedPolicy()), SessionTable(10, 60.0)
    metrics = Metrics(table, Stepper(adapter, table))
    table.open(adapter.start())
    metrics.num_opened += 1
    metrics.refused["SPEC"] += 2
    for total_ms in (0.2, 3.0, 1e6):
        metrics.stepped(total_ms)
    registry = CollectorRegistry()
    registry.register(metrics)
    text = generate_latest(registry).decode()
    for line in (
        "ccm_sessions 1.0",
        "ccm_sessions_opened_total 1.0",
        'ccm_refused_total{reason="SPEC"} 2.0',
        'ccm_step_ms_bucket{le="0.25"} 1.0',
        'ccm_step_ms_bucket{le="5.0"} 2.0',
        "ccm_step_ms_count 3.0",
    ):
        assert line in text
