"""Every metric tells what happened, is documented, and is what the dashboard shows."""

import asyncio
import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from gated import Gated
from prometheus_client import CollectorRegistry, generate_latest

from ccm_runtime.config import ServerConfig
from ccm_runtime.hosting import Hosting
from ccm_runtime.messages import Answer, BeginEpisode, Intervention, Reaction, SafeReason, SessionOptions
from ccm_runtime.metrics import expose
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy, served
from ccm_runtime.trial import Phase
from ccm_runtime.vigil import Vigil

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "deploy/grafana/ccm.json").read_text(encoding="utf-8"))


def hosted(**settings):
    return Hosting(served(ScriptedPolicy()), SessionTable(10, 60.0), ServerConfig(log_level="error", **settings))


def exported(metrics):
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


def answer(total_ms, *interventions, certainty=0.0, novelty=0.0):
    reaction = Reaction(None, Phase.EXECUTE, 0, 0, False, certainty, novelty, interventions)
    return Answer(1, reaction, total_ms=total_ms, infer_ms=total_ms / 2)


def test_metrics_tell_what_happened():
    hosting = hosted()
    metrics, table = hosting.metrics, hosting.table
    for explore_episodes, certainty, novelty in ((2, 0.25, 0.5), (0, 0.5, 2.0), (0, 1.0, 0.0)):
        session = table.open(hosting.adapter.start(explore_episodes=explore_episodes))
        told = answer(1.0, certainty=certainty, novelty=novelty)
        safe = SafeReason.MISSES if novelty > 1.0 else None
        table.keep(session.answered(session.memory, told, Vigil(safe=safe)))
    metrics.num_opened += 3
    metrics.refused["SPEC"] += 2
    for told in (answer(0.25), answer(3.0, Intervention.BOUND, Intervention.RATE), answer(1e6, Intervention.RATE)):
        metrics.stepped(told)
    text = exported(metrics)
    for line in (
        'ccm_sessions{phase="explore"} 1.0',
        'ccm_sessions{phase="execute"} 2.0',
        'ccm_certainty{phase="explore"} 0.25',
        'ccm_certainty{phase="execute"} 0.75',
        "ccm_sessions_novel 1.0",
        'ccm_sessions_safe{reason="misses"} 1.0',
        'ccm_sessions_safe{reason="interventions"} 0.0',
        "ccm_owed 0.0",
        "ccm_sessions_opened_total 3.0",
        'ccm_refused_total{reason="SPEC"} 2.0',
        'ccm_interventions_total{kind="bound"} 1.0',
        'ccm_interventions_total{kind="rate"} 2.0',
        'ccm_interventions_total{kind="late"} 0.0',
        'ccm_step_ms_bucket{le="0.25"} 1.0',
        'ccm_step_ms_bucket{le="5.0"} 2.0',
        "ccm_step_ms_count 3.0",
        'ccm_infer_ms_bucket{le="0.25"} 1.0',
        "ccm_draining 0.0",
        'agent_id="scripted-0"',
        'device="none"',
        'ccm_version_sessions{agent="scripted-0",version="5c5c5c5c5c5c"}',
    ):
        assert line in text


def names(tmp_path):
    hosting = hosted(store="redis://127.0.0.1:1/0", record=tmp_path)
    hosting.cast_shadow(served(ScriptedPolicy()))
    hosting.shadow.stop()
    return {family.name for family in hosting.metrics.collect()}


async def test_every_metric_is_documented_and_no_other(tmp_path):
    documented = set(re.findall(r"^\| `(ccm_[a-z_]+?)(?:_total)?`", PAGE, re.MULTILINE))
    assert names(tmp_path) == documented


async def test_the_dashboard_shows_metrics_that_exist(tmp_path):
    known = names(tmp_path)
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    assert len(queries) >= 8
    for query in queries:
        for name in re.findall(r"\bccm_[a-z_]+", query):
            assert re.sub(r"_(total|bucket|count|sum)$", "", name) in known, f"{name} in {query}"
    assert {"ccm_step_ms", "ccm_sessions", "ccm_interventions"} <= {
        re.sub(r"_(total|bucket)$", "", name) for query in queries for name in re.findall(r"\bccm_[a-z_]+", query)
    }


def test_the_dashboard_splits_by_labels_that_its_metrics_have():
    rows = re.findall(r"^\| `(ccm_[a-z_]+)` \| ([^|]+)\|", PAGE, re.MULTILINE)
    labels = {name: {*re.findall("`([a-z_]+)`", kind), *(["le"] if "histogram" in kind else [])} for name, kind in rows}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            split = {label for found in re.findall(r"\bby \(([^)]+)\)", query) for label in found.split(", ")}
            for name in re.findall(r"\bccm_[a-z_]+", query):
                assert split <= labels[name.removesuffix("_bucket")], query
            assert set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))) <= split
            assert (panel["type"] == "table") == (target.get("format") == "table" and target["instant"])


def test_the_dashboard_shows_all_servers_when_it_is_opened():
    job = DASHBOARD["templating"]["list"][1]
    assert ("job", 1, "$__all") == (job["name"], job["refresh"], job["current"]["value"])


def status(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20.0) as page:
            return page.status
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_probes_are_answered_beside_the_metrics(unused_tcp_port):
    hosting = hosted()
    stop = expose(hosting.metrics, "127.0.0.1", unused_tcp_port)
    try:
        assert [200, 200, 200, 404] == [status(unused_tcp_port, p) for p in ("/metrics", "/live", "/ready", "/else")]
        hosting.roster.draining = True
        assert [200, 503] == [status(unused_tcp_port, path) for path in ("/live", "/ready")]
    finally:
        stop()


async def test_an_event_that_is_told_twice_is_counted_once():
    policy = Gated()
    hosting = Hosting(
        served(policy), SessionTable(10, 60.0), ServerConfig(log_level="error", action_deadline_ms=1.0, max_misses=9)
    )
    opened, version = await hosting.open(SessionOptions()), hosting.roster.rollout().current
    policy.gate.clear()
    try:
        begin = BeginEpisode(np.zeros(2, np.float32))
        at_once = await asyncio.gather(*(hosting.step(opened.session_id, 1, begin) for _ in range(2)))
        again = await hosting.step(opened.session_id, 1, begin)
        assert [again, again] == at_once
        assert (1, 1) == (version.tally.num_misses, version.tally.num_interventions)
        assert 1 == hosting.metrics.interventions[Intervention.LATE] == sum(hosting.metrics.step_ms.counts)
    finally:
        policy.gate.set()
        hosting.roster.stop()
