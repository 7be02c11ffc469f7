"""The comparison of schedules: a run's last score counts, and nothing is compared with runs that did not get there."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

import schedule  # noqa: E402


class Scripted:
    """A training that says its last score just before it ends by itself."""

    pid = 1

    def __init__(self, command, **_):
        self._run, self._asked = Path(command[command.index("--run-dir") + 1]), 0
        self._run.mkdir()

    def poll(self):
        self._asked += 1
        if self._asked == 1:
            return None
        line = {"iteration": 5, "env_steps": 10, "updates": 20, "score": 0.95}
        (self._run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        return 0

    def kill(self):
        pass

    wait = kill


def test_the_score_that_a_run_ends_with_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "time", SimpleNamespace(sleep=lambda _: None, perf_counter=lambda: 0.0))
    monkeypatch.setattr(schedule, "cpu_s", lambda _: 1.0)
    monkeypatch.setattr(schedule.subprocess, "Popen", Scripted)
    schedule.train(tmp_path, "ours", 3)
    trace = json.loads(schedule.trace_file(tmp_path, "ours", 3).read_text())
    assert (True, [0.95]) == (trace["reached"], [point["score"] for point in trace["points"]])


def test_the_others_are_compared_with_those_of_ours_that_got_there():
    def trace(spent_s, *, reached):
        return {"seed": 0, "reached": reached, "cpu_s": spent_s, "wall_s": 2 * spent_s}

    released = [trace(60.0, reached=False)]
    found = schedule.compare({"ours": [trace(10.0, reached=True), trace(99.0, reached=False)], "released": released})
    assert {"ours_reached": 1, "ratio": [{"seed": 0, "reached": False, "cpu_s": 6.0, "wall_s": 6.0}]} == found
    with pytest.raises(SystemExit, match=r"none of our runs reached 0\.9"):
        schedule.compare({"ours": [trace(10.0, reached=False)], "released": released})
