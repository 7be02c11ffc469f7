"""Limits of actions, from `ccm export` to what a robot is given."""

import numpy as np
import pytest
from command import ccm, fails
from tiny_run import tiny_experiment

from ccm_runtime.bundle import load_bundle
from ccm_runtime.client import Client
from ccm_runtime.config import ServerConfig
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import Intervention
from ccm_runtime.server import read_agent
from ccm_runtime.signing import SIGNATURE
from ccm_runtime.testing import serve
from ccm_training.checkpoint import save_checkpoint

RATE = 0.001
TELLS = f"from step to step an action changes by at most {RATE}, {RATE}; fallback hold"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(tiny_experiment(), folder)
    return folder


@pytest.fixture(scope="module")
def bundle(run_dir, tmp_path_factory):
    """A bundle with limits, exported onto a signed one without."""
    out = tmp_path_factory.mktemp("exported") / "bundle"
    first = ccm("export", run_dir, "--out", out)
    assert (0, f"limits: {SafetyLimits()}") == (first.returncode, first.stdout.splitlines()[1])
    (out / SIGNATURE).write_bytes(b"a signature of the manifest that was there")
    second = ccm("export", run_dir, "--out", out, "--max-rate", f"{RATE},{RATE}", "--fallback", "hold")
    assert (0, f"limits: {TELLS}") == (second.returncode, second.stdout.splitlines()[1])
    assert f"the bundle that was there was signed, and this one is not: ccm sign {out}" in second.stderr
    return out


def test_a_bundle_tells_its_limits(bundle):
    assert SafetyLimits(max_rate=(RATE, RATE), fallback="hold") == load_bundle(bundle).manifest.safety
    assert not (bundle / SIGNATURE).exists()
    assert TELLS in ccm("verify", bundle).stdout
    assert TELLS in (bundle / "MODEL_CARD.md").read_text()


def test_a_served_bundle_slows_what_is_too_fast(bundle):
    config = ServerConfig(port=0, log_level="error")
    with serve(bundle, config) as address, Client(address) as client, client.open_session(seed=1) as session:
        action = session.begin_episode(np.zeros(2))
        for observation in ((5.0, -5.0), (-5.0, 5.0)):
            before, action = action, session.act(np.array(observation), 0.0)
            assert 0.0 < np.abs(action - before).max() <= RATE * 1.001
            assert Intervention.RATE in session.answer.reaction.interventions


def test_a_served_bundle_falls_back_as_it_says(bundle):
    config = ServerConfig(port=0, log_level="error", action_deadline_ms=1e-6)
    with serve(bundle, config) as address, Client(address) as client, client.open_session(seed=1) as session:
        session.begin_episode(np.zeros(2))
        held = session.act(np.ones(2), 0.0, applied_action=np.array([0.05, -0.05]))
        assert Intervention.LATE in session.answer.reaction.interventions
    np.testing.assert_array_equal(np.array([0.05, -0.05], np.float32), held)


@pytest.mark.parametrize(("asked", "holds"), [(RATE / 2, RATE / 2), (0.2, RATE)])
def test_a_server_can_be_stricter_than_its_bundle_and_not_looser(bundle, asked, holds):
    config = ServerConfig(port=0, log_level="error", max_rate=(asked, asked), fallback="last-safe")
    agent = read_agent(bundle, config)
    assert SafetyLimits(max_rate=(holds, holds), fallback="last-safe") == agent.manifest.safety
    with serve(agent, config) as address, Client(address) as client, client.open_session(seed=1) as session:
        before = session.begin_episode(np.zeros(2))
        assert holds == pytest.approx(np.abs(session.act(np.array([5.0, -5.0]), 0.0) - before).max(), rel=1e-3)


def test_a_server_refuses_limits_of_another_action(bundle):
    assert fails(ccm("serve", bundle, "--port", 0, "--max-rate", "1,1,1"), 2, "max_rate: expected 2 numbers", "got 3")
    assert fails(ccm("serve", bundle, "--port", 0, "--max-rate", "1,0.1"), 2, "max_rate: 1 for dx (m) limits nothing")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-rate", "0.5"], ("max_rate: expected 2 numbers", "(dx, dy), got 1")),
        (["--max-rate", "0.05,0.3"], ("max_rate: 0.3 for dy (m) limits nothing", "at most 0.2, its whole range")),
        (["--max-rate", "0.5,fast"], ("max_rate: expected a positive number", "got '0.5,fast'")),
    ],
)
def test_limits_that_are_none_are_refused_and_nothing_is_written(run_dir, tmp_path, flags, words):
    assert fails(ccm("export", run_dir, "--out", tmp_path / "bundle", *flags), 2, *words)
    assert [] == list(tmp_path.iterdir())
