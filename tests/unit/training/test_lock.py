"""One process at a time trains a run."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest
from tiny_run import tiny_config

from ccm_runtime.errors import RunError
from ccm_training import lock
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


def test_who_only_looks_does_not_keep_a_run_from_being_trained(tmp_path, monkeypatch):
    with (tmp_path / ".lock").open("a") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(lock.time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with trained_by_us_alone(tmp_path):
            assert is_being_trained(tmp_path)


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
