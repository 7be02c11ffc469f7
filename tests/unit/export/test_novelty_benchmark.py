"""The agent that comes with the package tells that it is not at home; in full: benchmarks/novelty.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import novelty

from ccm_runtime.config import ServerConfig
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.server import read_agent
from ccm_training.envs.registry import get_family


@pytest.fixture(scope="module")
def found():
    agent = read_agent(embedded_bundle(), ServerConfig())
    return novelty.measure(agent.adapter(), get_family(agent.manifest.family), 16, 0)


@pytest.mark.parametrize(
    "disturbance",
    [
        "shifted by 3 sigma",
        "shifted by 5 sigma",
        "shifted by 10 sigma",
        "frozen sensor",
        "goals on the other half circle",
    ],
)
def test_who_is_not_at_home_tells(found, disturbance):
    assert 0.95 <= found["disturbed"][disturbance]["auroc"]
    assert 0.9 <= found["disturbed"][disturbance]["flagged"]


def test_who_is_at_home_mostly_does_not(found):
    assert found["false_alarms"] <= 0.1
