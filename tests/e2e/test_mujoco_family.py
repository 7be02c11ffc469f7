"""The whole loop of a family of MuJoCo's, on a run too small to learn anything."""

import json

import pytest
from command import ccm, fails
from drawing import needs_opengl

from ccm_runtime.commands.server_process import server_process

TINY = """
family: walker-sparse
meta_batch: 4
threads: 1
updates_per_iteration: 2
tasks: {num_train: 6, num_test: 3}
networks: {latent: 3, hidden: [16, 16], encoder_hidden: [16, 16]}
collect: {warmup_trials: 1, iterations: 2, tasks: 6, capacity: 3}
encoder: {pretrain_updates: 3}
trial: {explore_episodes: 1, execute_episodes: 1}
evaluation: {every: 2}
"""


def done(*arguments):
    finished = ccm(*arguments, timeout=280)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walker")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    shown = done("train", "--config", folder / "tiny.yaml", "--run-dir", folder / "run")
    assert "walker-sparse · ccm" in shown
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(run_dir):
    folder = run_dir.parent / "bundle"
    assert "onnxruntime agrees with torch" in done("export", run_dir, "--out", folder)
    return folder


def test_a_bundle_of_it_is_sound(bundle):
    assert ": ok" in done("verify", bundle)


def test_served_run_and_bundle_score_alike(run_dir, bundle):
    with server_process(bundle) as address:
        served = json.loads(done("adapt", "--server", address, "--trials", 3, "--json"))
    for path in (run_dir, bundle):
        here = json.loads(done("evaluate", path, "--trials", 3, "--json"))
        assert (here["family"], here["ceiling"], here["floor"]) == ("walker-sparse", 128.0, served["floor"])
        assert here["certainty"] == pytest.approx(served["certainty"], abs=1e-3)
        assert here["returns"] == pytest.approx(served["returns"], rel=1e-3, abs=1e-2)


@needs_opengl
def test_a_trial_becomes_a_video(bundle, tmp_path):
    out = tmp_path / "trial.mp4"
    shown = done("record", bundle, "--out", out, "--task", "1.5")
    assert "walker-sparse · ccm, target velocity 1.5 m/s; returns " in shown
    assert out.stat().st_size > 10_000
    assert list(tmp_path.iterdir()) == [out]
    assert fails(ccm("record", bundle, "--out", out), 2, "exists already", "--force")


def test_where_there_is_no_opengl_a_video_is_refused_in_one_line(bundle, tmp_path):
    finished = ccm("record", bundle, "--out", tmp_path / "trial.gif", MUJOCO_GL="disabled")
    assert fails(finished, 9, "cannot draw the walker2d", "MUJOCO_GL=disabled")
    assert list(tmp_path.iterdir()) == []
