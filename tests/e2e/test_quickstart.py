"""`ccm quickstart` from end to end, on a run too small to learn anything."""

import json
import subprocess
import sys

import pytest

from ccm_runtime.commands.quickstart import _make_way, quickstart
from ccm_runtime.errors import ConfigError

TINY = """
family: hard-point-robot-aligned
meta_batch: 4
threads: 1
updates_per_iteration: 2
tasks: {num_train: 8, num_test: 4}
networks: {latent: 3, hidden: [16, 16], encoder_hidden: [16, 16]}
collect: {warmup_trials: 2, iterations: 2, tasks: 8, capacity: 4}
encoder: {pretrain_updates: 5}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    command = [sys.executable, "-m", "ccm_runtime", "quickstart", "--config", "tiny.yaml", "--seed", "1", "--json"]
    return subprocess.run(
        [*command, "--out", "out"], cwd=folder, capture_output=True, text=True, check=False, timeout=280
    ), folder


def test_quickstart_ends_with_one_line_of_json(finished):
    process, folder = finished
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout.splitlines()[-1])
    assert (summary["family"], summary["method"], summary["explore_episodes"]) == ("hard-point-robot-aligned", "ccm", 4)
    assert len(summary["returns"]) >= 5
    assert set(summary["stage_seconds"]) == {"train", "export", "verify", "serve", "adapt", "report"}
    assert summary["seconds"] >= sum(summary["stage_seconds"].values()) - 0.1
    assert {"adaptation_score", "interval", "ceiling", "floor"} <= set(summary)
    assert (folder / summary["bundle"] / "manifest.json").is_file()
    assert "<html" in (folder / summary["report"]).read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("what", ["run", "bundle"])
def test_the_served_agent_s_returns_equal_the_in_process_evaluation_s(finished, what):
    process, folder = finished
    summary = json.loads(process.stdout.splitlines()[-1])
    command = [sys.executable, "-m", "ccm_runtime", "evaluate", summary[what], "--trials", str(summary["trials"])]
    evaluated = subprocess.run(
        [*command, "--json"], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert evaluated.returncode == 0, evaluated.stderr
    evaluation = json.loads(evaluated.stdout)
    assert evaluation["returns"] == pytest.approx(summary["returns"], rel=1e-3, abs=1e-3)
    assert evaluation["certainty"] == pytest.approx(summary["certainty"], abs=1e-3)
    assert evaluation["interval"] == pytest.approx(summary["interval"], abs=1e-3)
    assert (evaluation["ceiling"], evaluation["floor"]) == (summary["ceiling"], summary["floor"])
    assert set(evaluation) <= set(summary)


def test_what_is_no_run_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious", encoding="utf-8")
    command = [sys.executable, "-m", "ccm_runtime", "quickstart", "--config", "point_robot_debug", "--out", tmp_path]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "choose another folder" in refused.stderr
    assert (tmp_path / "run" / "thesis.txt").exists()


def test_nothing_is_added_to_a_bundle(tiny_bundle):
    with pytest.raises(ConfigError, match="is a bundle, which nothing may be added to; choose another folder"):
        quickstart(tiny_bundle, config="point_robot_debug", seed=0, as_json=False)


def test_an_earlier_run_makes_way(tmp_path):
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "config.yaml").write_text("family: x", encoding="utf-8")
    _make_way(run_dir)
    assert not run_dir.exists()
    _make_way(run_dir)
