"""The example in Python, as its README runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from roaming import ANGLE, Roaming

from ccm_runtime.client import Client
from ccm_runtime.drive import drive
from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import serve
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import SimulatedTask

EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "adapt_my_robot.py"


def test_the_example_runs_the_trial_that_a_driven_environment_runs():
    with serve(Roaming(Adaptation(explore_episodes=2, episodes=3, horizon=32))) as address:
        command = [sys.executable, str(EXAMPLE), "--server", address, "--angle", str(ANGLE)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert finished.returncode == 0, finished.stderr
        with Client(address) as client, client.open_session(seed=7) as session:
            expected = drive(SimulatedTask(get_family("hard-point-robot-aligned"), [ANGLE, ANGLE]), session)
    lines = finished.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["explore", "explore", "execute"]
    assert json.loads(lines[-1])["returns"] == pytest.approx(expected, rel=1e-3)
    assert sum(expected) > 0.0
