"""docs/tutorial/a-robot-that-reads-a-sign.md, followed as a reader would: its commands, its script, its crash."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import CCM

from ccm_runtime.commands.server_process import free_port, listening_process

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/tutorial/a-robot-that-reads-a-sign.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(ccm .+)$", PAGE, re.MULTILINE)
SERVE = "ccm serve reader-bundle --store sessions.db"
ROBOT = re.search(r"`robot.py`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)[1]
PERIOD = "PERIOD_S = 0.5"
ADDRESS = "127.0.0.1:7070"
SHORT = (
    "collect.iterations=2", "collect.warmup_trials=1", "collect.tasks=4", "updates_per_iteration=2",
    "tasks.num_train=16", "tasks.num_test=4", "encoder.pretrain_updates=5", "evaluation.every=0",
)  # fmt: skip
pytestmark = pytest.mark.timeout(600)


def follow(folder, settings=()):
    """Every command up to serving, these settings over those of training."""
    for command in COMMANDS[: COMMANDS.index(SERVE)]:
        over = [f"--set={setting}" for setting in settings] if command.startswith("ccm train") else []
        words = [*CCM, *shlex.split(command)[1:], *over]
        finished = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=500)
        assert finished.returncode == 0, f"{command}\n{finished.stderr}"


def served(folder, port):
    """The page's server on another port."""
    flags = ["serve", str(folder / "reader-bundle"), "--store", str(folder / "sessions.db"), "--port", str(port)]
    return listening_process("ccm_runtime", *flags)


def robot(folder, address, door, period="PERIOD_S = 0.0"):
    """The page's robot as a process, quicker than the page's."""
    assert PERIOD in ROBOT
    assert ADDRESS in ROBOT
    (folder / "robot.py").write_text(ROBOT.replace(PERIOD, period).replace(ADDRESS, address), encoding="utf-8")
    command = [sys.executable, "robot.py", str(door)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def returns_of(told):
    return [float(each) for each in re.findall(r"^episode \d: ([+-][\d.]+)$", told, re.MULTILINE)]


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    follow(folder, SHORT)
    return folder


def test_the_commands_leave_what_the_page_says(followed):
    for name in ("trial.gif", "runs/reader/report.html", "both.html", "reader-bundle/manifest.json"):
        assert (followed / name).is_file(), name
    assert "policy.information_weight" in (followed / "both.html").read_text(encoding="utf-8")


def test_the_robot_walks_three_episodes(followed):
    with served(followed, 0) as server:
        told, wrong = robot(followed, server.address, 0.6).communicate(timeout=60)
    assert not wrong
    assert 3 == len(returns_of(told))
    assert told.startswith("explore 1: at ")
    assert "execute 1: at " in told


def test_the_robot_goes_on_at_a_server_that_came_back(followed):
    port = free_port()
    with served(followed, port) as server:
        walking = robot(followed, server.address, -0.4, "PERIOD_S = 0.02")
        begun = [walking.stdout.readline() for _ in range(3)]
        os.kill(server.pid, signal.SIGKILL)
    with served(followed, port):
        rest, wrong = walking.communicate(timeout=60)
    assert (0, "") == (walking.returncode, wrong)
    assert begun[2].startswith("explore 3: ")
    steps = [line.split(":")[0] for line in [*begun, *rest.splitlines()] if line.startswith("explore")]
    assert [f"explore {step}" for step in range(1, len(steps) + 1)] == steps
    assert 3 == len(returns_of(rest))


@pytest.mark.learning
def test_the_agent_reads_the_sign_and_the_incurious_one_does_not(tmp_path):
    follow(tmp_path)
    scores = {
        name: json.loads((tmp_path / "runs" / name / "evaluation.json").read_text(encoding="utf-8"))["adaptation_score"]
        for name in ("reader", "incurious")
    }
    assert 0.9 <= scores["reader"]
    assert scores["incurious"] <= 0.1
    with served(tmp_path, 0) as server:
        for door in (0.6, -0.4):
            told, _ = robot(tmp_path, server.address, door).communicate(timeout=60)
            assert [0.0, 1.0, 1.0] == returns_of(told)
