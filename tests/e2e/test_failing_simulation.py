"""A user's family that fails ends every command in one line, with which, what, and where in their code: a simulation
with code 8, and anything else with code 2."""

import pytest
import yaml
from command import ccm, fails
from tiny_bundle import tiny_graphs, write_bundle
from tiny_run import short_config

from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import ScriptedPolicy, manifest_of, serve

FALLING = """
import os
from ccm_training.envs.point_robot import HardPointRobot

class Falling(HardPointRobot):
    def __init__(self):
        super().__init__("falling", aligned=True)

    def sample_tasks(self, split, num, seed):
        tasks = super().sample_tasks(split, num, seed)
        return tasks[os.environ["DRAWS"]] if "DRAWS" in os.environ else tasks

    def simulate(self, tasks, seed=0):
        return falling(super().simulate(tasks, seed))

    def make(self, tasks, seed=0):
        return falling(super().make(tasks, seed))

def falling(env):
    if "FALLS" in os.environ:
        env.step = lambda action: 1 / 0
    return env
"""
FAMILY, LINE = "falls:Falling", 1 + FALLING.partition("1 / 0")[0].count("\n")
EVERYWHERE = {
    "train": ("train", "--config", "short.yaml", "--run-dir", "other"),
    "evaluate a run": ("evaluate", "run"),
    "evaluate a bundle": ("evaluate", "bundle", "--family", FAMILY),
    "record": ("record", "bundle", "--family", FAMILY, "--out", "film.gif"),
    "report": ("report", "run"),
    "export": ("export", "run", "--out", "exported"),
    "adapt": ("adapt", "--family", FAMILY, "--trials", 3),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a family, a run of it, and a bundle."""
    folder = tmp_path_factory.mktemp("falling")
    (folder / "falls.py").write_text(FALLING)
    (folder / "short.yaml").write_text(yaml.safe_dump(short_config().model_dump(mode="json") | {"family": FAMILY}))
    manifest = manifest_of(
        ScriptedPolicy(Adaptation(explore_episodes=2, episodes=3, horizon=32), size=2), family=FAMILY
    )
    write_bundle(folder / "bundle", manifest, tiny_graphs(manifest))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finished = ccm("train", "--config", "short.yaml", "--run-dir", "run")
    assert finished.returncode == 0, finished.stderr
    return folder


@pytest.mark.parametrize("command", EVERYWHERE)
def test_a_simulation_that_fails_is_told_with_its_line_by_every_command(trained, monkeypatch, command):
    monkeypatch.chdir(trained)
    with serve(trained / "bundle") as address:
        finished = ccm(*EVERYWHERE[command], *(["--server", address] if command == "adapt" else []), FALLS="1")
    place = f"{trained}/falls.py:{LINE}"
    assert fails(finished, 8, f"the simulation of {FAMILY} failed at {place}: ZeroDivisionError: division by zero")
    assert ("Mend the family, then go on with --resume" in finished.stderr) == (command == "train")


@pytest.mark.parametrize("command", ["train", "evaluate a run", "record", "adapt"])
def test_tasks_that_cannot_be_drawn_are_told_with_the_line(trained, monkeypatch, command):
    monkeypatch.chdir(trained)
    with serve(trained / "bundle") as address:
        finished = ccm(*EVERYWHERE[command], *(["--server", address] if command == "adapt" else []), DRAWS="none")
    line = 1 + FALLING.partition("tasks[os")[0].count("\n")
    assert fails(finished, 2, f"{FAMILY}: sample_tasks('", f") failed at {trained}/falls.py:{line}: IndexError: only ")


@pytest.mark.parametrize("command", ["evaluate a bundle", "adapt", "train"])
def test_its_traceback_is_shown_to_who_debugs(trained, monkeypatch, command):
    monkeypatch.chdir(trained)
    with serve(trained / "bundle") as address:
        more = ["--server", address] if command == "adapt" else []
        finished = ccm(*EVERYWHERE[command], *more, FALLS="1", CCM_DEBUG="1")
    assert finished.returncode == 8
    assert f'falls.py", line {LINE}, in <lambda>' in finished.stderr
