"""The page of families says what the registry says: ids, sizes, T, K, endings, ranges."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from ccm_training.envs.family import SPLITS
from ccm_training.envs.mujoco.family import MujocoFamily
from ccm_training.envs.registration import gymnasium_id
from ccm_training.envs.registry import list_families

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "families.md").read_text()
FAMILIES = {family.name: family for family in list_families()}
SECTIONS = dict(re.findall(r"^### ([a-z-]+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def ceiling(family):
    bound = family.ceiling(family.sample_tasks("test", 200, 7))
    if bound is None:
        return "-"
    return f"{bound.mean():.0f}" if len(set(bound.tolist())) == 1 else f"{bound.mean():.0f} in the mean"


def overview(family):
    return (
        f"| [`{family.name}`](#{family.name}) | `{gymnasium_id(family.name)}` | {', '.join(family.task.labels)} "
        f"| {family.observation.size} | {family.action.size} | {family.horizon} | {family.explore_episodes} "
        f"| {ceiling(family)} |"
    )


def number(value):
    return {math.pi: "π", 2 * math.pi: "2π"}.get(value, f"{value:g}")


def ranges(family):
    """A row for each parameter: its name, unit, and where it lies in each split."""
    if not isinstance(family, MujocoFamily):
        whole = [((low, high),) for low, high in zip(family.task.low, family.task.high, strict=True)]
        drawn = [[each] * 3 for each in whole]
    else:
        drawn = [[parameter.intervals(split) for split in SPLITS] for parameter in family.parameters]
    for label, unit, splits in zip(family.task.labels, family.task.units, drawn, strict=True):
        texts = [" or ".join(f"{number(low)} to {number(high)}" for low, high in intervals) for intervals in splits]
        yield f"| {label} | {unit} | {' | '.join(texts)} |"


def test_every_family_has_a_row_and_a_section_and_no_other_has():
    rows = re.findall(r"^\| \[`.*$", PAGE, re.MULTILINE)
    assert [overview(family) for family in FAMILIES.values()] == rows
    assert list(FAMILIES) == list(SECTIONS)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_section_has_the_ranges_of_every_parameter(name):
    found = re.findall(r"^\|.*\|$", SECTIONS[name], re.MULTILINE)[2:]
    assert list(ranges(FAMILIES[name])) == found


@pytest.mark.parametrize("name", FAMILIES)
def test_a_section_tells_reward_and_endings_and_what_differs_from_the_released_code(name):
    labels = re.findall(r"^- \*\*([a-z ]+)\*\*:", SECTIONS[name], re.MULTILINE | re.IGNORECASE)
    assert ["Reward", "Ends", "Source", "Differs"] == labels


@pytest.mark.parametrize("name", FAMILIES)
def test_ranges_hold_for_tasks_that_are_drawn(name):
    family = FAMILIES[name]
    for split in SPLITS:
        tasks = family.sample_tasks(split, 50, 3)
        assert np.isfinite(tasks).all()
        assert (tasks >= family.task.low_array).all()
        assert (tasks <= family.task.high_array).all()


def test_robots_are_described_as_they_are():
    for robot in {
        family.robot.name: family.robot for family in FAMILIES.values() if isinstance(family, MujocoFamily)
    }.values():
        model, limit = robot.model, robot.control_limit
        row = (
            f"| `{robot.name}` | {robot.observation.size} | {len(robot.motors)} in -{limit:g} to {limit:g} "
            f"| {model.opt.timestep:g} s x {robot.frame_skip} = {robot.step_s:g} s "
            f"| ± {robot.position_noise:g} | {noise(robot)} |"
        )
        assert row in PAGE


def noise(robot):
    if robot.velocity_noise_form == "normal":
        return f"normal, {robot.velocity_noise:g}"
    return f"± {robot.velocity_noise:g}"
