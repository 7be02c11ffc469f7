"""The benchmark of simulations: its plain opponents play by the same rules, and its page shows what was measured."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ccm_training.envs.registry import get_family

ROOT = Path(__file__).resolve().parents[3]
MADE = ROOT / "benchmarks" / "results" / "simulation"
sys.path.insert(0, str(ROOT / "benchmarks"))

import simulation  # noqa: E402
from point_robot_one_by_one import PlainPointRobot  # noqa: E402


@pytest.mark.parametrize("name", ["sparse-point-robot", "hard-point-robot"])
def test_the_plain_point_robot_pays_what_the_batch_pays(name):
    family, rng = get_family(name), np.random.default_rng(0)
    tasks = family.sample_tasks("train", 20, 0)
    goals, env = family.goals(tasks), family.simulate(tasks)
    position = env.reset()
    robots = [PlainPointRobot(radius=family.radius, horizon=family.horizon) for _ in tasks]
    for robot, own in zip(robots, goals.astype(float), strict=True):
        robot.reset(own)
    paid = 0.0
    for step in range(family.horizon):
        aim = goals[:, 0] if step < 10 else goals[:, -1]
        actions = (0.5 * (aim - position) + 0.05 * rng.normal(size=position.shape)).astype(np.float32)
        position, reward, _ = env.step(actions)
        single = [robot.step(action.astype(float)) for robot, action in zip(robots, actions, strict=True)]
        np.testing.assert_allclose([each[0] for each in single], position, atol=1e-5)
        np.testing.assert_allclose([each[1] for each in single], reward, atol=1e-4)
        assert {each[3] for each in single} == {step + 1 == family.horizon}
        paid += reward.sum()
    assert paid > 20.0


def test_every_contestant_makes_the_steps_that_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file where it runs
    assert simulation.batched_steps("cheetah-mass", 3, 2).advance() == 3
    assert simulation.single_steps("cheetah-mass").advance() == 64
    assert simulation.batched_trials("cheetah-mass", 3, 1).advance() == 3 * 64
    assert simulation.single_trials("cheetah-mass").advance() == 64
    assert simulation.batched_points("hard-point-robot", 5).advance() == 5 * 32
    assert simulation.single_points("sparse-point-robot").advance() == 64 * 20


def test_a_contestant_that_does_twice_as_much_is_twice_as_fast():
    clock = {"now": 0.0}

    class Scripted(simulation.Contestant):
        def slice(self, length_s):
            clock["now"] += length_s
            rate = float(self.advance())
            return rate * self.cores, rate

    found = simulation.duel(Scripted("one", lambda: 10), [Scripted("two", lambda: 20, 2)], 3, 0.5)
    assert clock["now"] == 3 * 4 * 0.5
    assert found[0]["ratio_cpu"] == [2.0] * 3
    assert found[0]["ratio_wall"] == found[0]["ratio_wall_undisturbed"] == [4.0] * 3
    assert found[0]["rounds_undisturbed"] == 3


def test_the_page_shows_what_was_measured_last():
    record = json.loads((MADE / "results.json").read_text())
    shown = (ROOT / "docs" / "explanation" / "simulation.md").read_text()
    assert simulation.between_marks(shown, simulation.targets_of(record)) == shown
    assert simulation.page(record) == (MADE / "table.md").read_text()
    assert simulation.reached(record["results"]) == record["targets"]
