"""The example in Node, as its README runs it: nothing of ours on the client's side but the contract."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from roaming import ANGLE, Roaming, our_returns, task

from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import serve

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node"
PROTO = ROOT / "proto" / "ccm_runtime" / "v1" / "adaptation.proto"


pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="node and npm are not installed"
)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A copy of the example with its dependencies installed."""
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert installed.returncode == 0, installed.stderr
    return folder


@pytest.fixture(scope="module")
def address():
    policy = Roaming(Adaptation(explore_episodes=2, episodes=4, horizon=32))
    with serve(policy) as address:
        yield address


def node(example, *arguments):
    command = ["node", "trial.mjs", "--proto", str(PROTO), *arguments]
    return subprocess.run(command, cwd=example, capture_output=True, text=True, check=False, timeout=60)


def test_a_node_client_runs_the_same_trial_as_ours(example, address):
    finished = node(example, "--server", address, "--angle", str(ANGLE), "--seed", "3")
    assert finished.returncode == 0, finished.stderr
    trial = json.loads(finished.stdout)
    assert trial["returns"] == pytest.approx(our_returns(address, seed=3), rel=1e-3)
    assert trial["closed"] == pytest.approx(trial["returns"], rel=1e-5)
    assert [episode["phase"] for episode in trial["episodes"]] == ["PHASE_EXPLORE"] * 2 + ["PHASE_EXECUTE"] * 2
    assert sum(trial["returns"]) > 0.0


def test_the_example_s_environment_is_ours(example):
    """Straight to both goals and to stay: the return that the family's own simulation gives."""
    script = """
        import { HardPointRobotAligned } from "./hard_point_robot.mjs";
        const env = new HardPointRobotAligned(Number(process.argv[1]));
        const goal = env.second;
        let position = env.reset(), total = 0, over = false;
        while (!over) {
          const action = goal.map((g, axis) => g - position[axis]);
          const after = env.step(action);
          [position, over] = [after.observation, after.truncated];
          total += after.reward;
        }
        console.log(total);
    """
    command = ["node", "--input-type=module", "--eval", script, "--", str(ANGLE)]
    finished = subprocess.run(command, cwd=example, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr

    env = task()
    goal = np.array([np.cos(ANGLE), np.sin(ANGLE)])
    position, _ = env.reset()
    total, over = 0.0, False
    while not over:
        position, reward, _, over, _ = env.step(goal - position)
        total += reward
    assert float(finished.stdout) == pytest.approx(total, rel=1e-4)


def test_an_unreachable_server_is_one_line(example):
    finished = node(example, "--server", "127.0.0.1:1")
    assert finished.returncode == 1
    assert finished.stderr.startswith("trial: error: ")
    assert len(finished.stderr.strip().splitlines()) == 1
