"""Sweeps on a local Ray cluster of two workers: whatever ends a worker or the sweep, the runs end as if nothing had."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from command import CCM, ccm
from killed_run import config

from ccm_training.checkpoint import parameter_hash
from ccm_training.train import train

pytest.importorskip("ray")
pytestmark = pytest.mark.ray
SETTINGS = {(seed, discount) for seed in (0, 1) for discount in (0.9, 0.95)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Parameters of the same runs, each trained by itself and without Ray."""
    folder = tmp_path_factory.mktemp("undisturbed")
    hashes = {}
    for seed, discount in SETTINGS:
        settings = config().model_dump() | {"seed": seed}
        settings["policy"]["discount"] = discount
        run_dir = folder / f"{seed}-{discount}"
        train(type(config()).model_validate(settings), run_dir, device="cpu", progress=False)
        hashes[seed, discount] = parameter_hash(run_dir)
    assert len(set(hashes.values())) == 4
    return hashes


@pytest.fixture
def arguments(tmp_path):
    preset = tmp_path / "tiny.yaml"
    preset.write_text(yaml.safe_dump(config().model_dump(mode="json")))
    out = tmp_path / "sweep"
    axes = ("--seeds", "0..1", "--set", "policy.discount=0.9,0.95")
    return ["sweep", "--config", preset, *axes, "--out", out, "--workers", "2", "--json"]


def hashes_of(table):
    assert {run["state"] for run in table["runs"]} == {"finished"}
    return {(run["seed"], run["settings"]["policy.discount"]): run["parameters"] for run in table["runs"]}


def attempts(out):
    """Of all runs together: each begins a file of TensorBoard's."""
    return len(list(out.glob("*/tensorboard/events*")))


def test_a_sweep_ends_with_the_results_of_an_undisturbed_one_though_a_worker_is_killed(arguments, undisturbed):
    out = arguments[arguments.index("--out") + 1]
    with subprocess.Popen([*CCM, *map(str, arguments)], stdout=subprocess.PIPE, text=True) as sweep:
        os.kill(worker_that_trains(out), signal.SIGKILL)
        said, _ = sweep.communicate(timeout=280)
    assert sweep.returncode == 0
    assert undisturbed == hashes_of(json.loads(said))
    assert attempts(out) > 4


def test_workers_that_die_at_every_second_checkpoint_lose_nothing(arguments, undisturbed):
    out = arguments[arguments.index("--out") + 1]
    ended = ccm(*arguments, timeout=280, CCM_CRASH_AT="checkpoint.renamed:2")
    assert ended.returncode == 0, ended.stderr
    assert undisturbed == hashes_of(json.loads(ended.stdout))
    assert attempts(out) >= 8


def test_a_sweep_that_is_interrupted_goes_on_where_it_was(arguments, undisturbed):
    out = arguments[arguments.index("--out") + 1]
    command = [*CCM, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as sweep:
        worker_that_trains(out)
        os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
        said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 130
    assert "finished" not in {run["state"] for run in json.loads(said)["runs"][2:]}
    ended = ccm(*arguments, timeout=280)
    assert undisturbed == hashes_of(json.loads(ended.stdout))


def test_a_run_that_fails_is_named_and_ends_no_other(arguments):
    ended = ccm(*arguments, "--set", "meta_batch=2,100", timeout=280)
    assert ended.returncode == 8
    assert ended.stderr.strip().splitlines()[-1].startswith("ccm: error: 4 of 8 runs failed")
    assert "(code 2): meta_batch 100 is larger than tasks.num_train 4" in ended.stderr
    runs = json.loads(ended.stdout)["runs"]
    assert [run["settings"]["meta_batch"] for run in runs if run["state"] == "finished"] == [2] * 4


def worker_that_trains(out):
    """Process of a worker that has begun to train one of the runs."""
    give_up = time.monotonic() + 120.0
    while time.monotonic() < give_up:
        for lock in out.glob("*/.lock"):
            if any(lock.parent.glob("checkpoints/0*")) and (holder := holder_of(lock)):
                return holder
        time.sleep(0.05)
    pytest.fail("no run was begun")


def holder_of(lock):
    """Process that holds a lock of a file, by the system's own table."""
    inode = str(lock.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[5].endswith(f":{inode}"):
            return int(words[4])
    return None
