"""The example in Python, as its README runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from roaming import ANGLE, Roaming, our_returns

from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import serve

EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "adapt_my_robot.py"


def test_the_example_runs_the_trial_that_a_driven_environment_runs():
    with serve(Roaming(Adaptation(explore_episodes=2, episodes=3, horizon=32))) as address:
        command = [sys.executable, str(EXAMPLE), "--server", address, "--angle", str(ANGLE)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert finished.returncode == 0, finished.stderr
        expected = our_returns(address, seed=7)
    lines = finished.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["explore", "explore", "execute"]
    assert json.loads(lines[-1])["returns"] == pytest.approx(expected, rel=1e-3)
    assert sum(expected) > 0.0
