"""One process at a time trains a run."""

import os
import signal
import subprocess
import sys

import pytest
from tiny_run import tiny_config

from ccm_runtime.errors import RunError
from ccm_training.lock import is_being_trained, trained_by_us_alone
from ccm_training.train import train

HOLD = """
import pathlib, sys, time
from ccm_training.lock import trained_by_us_alone
with trained_by_us_alone(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_one_is_refused_and_a_later_one_is_not(tmp_path):
    assert not is_being_trained(tmp_path / "run")
    with trained_by_us_alone(tmp_path / "run"):
        assert is_being_trained(tmp_path / "run")
        with pytest.raises(RunError, match="another process trains this run"), trained_by_us_alone(tmp_path / "run"):
            pytest.fail("two hold it")
    assert not is_being_trained(tmp_path / "run")


def test_training_is_refused_before_anything_is_written(tmp_path):
    with trained_by_us_alone(tmp_path), pytest.raises(RunError, match="another process trains this run"):
        train(tiny_config(), tmp_path, device="cpu", progress=False)
    assert [".lock"] == [path.name for path in tmp_path.iterdir()]


def test_a_process_that_is_killed_lets_go(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert is_being_trained(tmp_path)
        os.kill(holder.pid, signal.SIGKILL)
    with trained_by_us_alone(tmp_path):
        pass
