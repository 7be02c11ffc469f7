"""The example in C++, built as its README says: nothing of ours on the client's side but the contract."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from roaming import ANGLE, Roaming, our_returns

from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import serve

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp"
TOOLS = ("g++", "make", "pkg-config", "protoc", "grpc_cpp_plugin")


def missing():
    """Return what the example cannot be built without and is not here."""
    tools = [tool for tool in TOOLS if shutil.which(tool) is None]
    if tools:
        return ", ".join(tools)
    found = subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"], check=False, timeout=60)
    return "" if found.returncode == 0 else "libgrpc++-dev"


pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}")


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """The example, built (in some nine seconds of a core)."""
    out = tmp_path_factory.mktemp("cpp")
    command = ["make", "-C", EXAMPLE, f"OUT={out}", "CXXFLAGS=-O0 -Werror"]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert built.returncode == 0, built.stderr
    return out / "trial"


def run(trial, *arguments):
    return subprocess.run([trial, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


def test_a_cpp_client_runs_the_same_trial_as_ours(trial):
    with serve(Roaming(Adaptation(explore_episodes=2, episodes=4, horizon=32))) as address:
        finished = run(trial, address, ANGLE, 3)
        assert finished.returncode == 0, finished.stderr
        told = json.loads(finished.stdout)
        expected = our_returns(address, seed=3)
    assert told["returns"] == pytest.approx(expected, rel=1e-3)
    assert told["closed"] == pytest.approx(told["returns"], rel=1e-4)
    assert told["phases"] == ["PHASE_EXPLORE"] * 2 + ["PHASE_EXECUTE"] * 2
    assert sum(told["returns"]) > 0.0


def test_what_goes_wrong_is_one_line(trial):
    finished = run(trial, "127.0.0.1:1")
    assert finished.returncode == 1
    assert finished.stderr.startswith("trial: error: ")
    assert len(finished.stderr.strip().splitlines()) == 1
