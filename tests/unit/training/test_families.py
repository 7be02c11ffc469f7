"""Rewards of the point robots are exact, their ceilings are reached and never passed, and their tasks well spread."""

import math

import numpy as np
import pytest
import torch

from ccm_runtime.errors import FamilyUnknownError
from ccm_training.envs.registry import get_family, list_families

FAMILIES = {family.name: family for family in list_families() if "point-robot" in family.name}
HARD = [name for name in FAMILIES if name.startswith("hard")]


def roll(family, tasks, choose):
    """Positions before and after, actions and rewards under `choose(position, step)`, each `[horizon, n, ...]`."""
    env = family.make(torch.from_numpy(tasks))
    position = env.reset()
    trace = []
    for step in range(family.horizon):
        action = torch.as_tensor(choose(position.numpy(), step), dtype=torch.float32)
        after = env.step(action)
        trace.append((position.numpy(), action.numpy(), after.observation.numpy(), after.reward.numpy()))
        assert not after.terminated.any()
        position = after.observation
    return [np.stack(column) for column in zip(*trace, strict=True)]


def sparse_rewards(goals, radius, positions):
    """The reward of every step of one episode, in plain Python."""
    distances = [math.dist(position, goals[0]) for position in positions]
    return [1.0 - distance if distance <= radius else 0.0 for distance in distances]


def hard_rewards(goals, radius, positions):
    """The same for two goals in sequence."""
    rewards, touched = [], False
    for position in positions:
        to_first, to_second = math.dist(position, goals[0]), math.dist(position, goals[1])
        if touched:
            rewards.append(6.0 - to_second if to_second <= radius else 1.0)
        else:
            rewards.append(1.0 - to_first if to_first <= radius else 0.0)
            touched = to_first <= radius / 2
    return rewards


@pytest.mark.parametrize("name", FAMILIES)
def test_rewards_are_exact_on_ten_thousand_random_transitions(name):
    family, rng = FAMILIES[name], np.random.default_rng(0)
    tasks = family.sample_tasks("train", 10_000 // family.horizon + 1, seed=1)
    goals = family.task_features(tasks).reshape(len(tasks), -1, 2)

    def towards_a_goal_or_away(position, step):
        aim = goals[:, 0] if step < 9 else goals[:, -1]
        return 0.5 * (aim - position) + rng.normal(scale=0.06, size=position.shape)

    before, action, after, reward = roll(family, tasks, towards_a_goal_or_away)
    np.testing.assert_allclose(after, before + np.clip(action, -0.1, 0.1), atol=1e-6)
    scalar = sparse_rewards if name.startswith("sparse") else hard_rewards
    expected = [scalar(goals[task], family.radius, after[:, task].astype(float)) for task in range(len(tasks))]
    # Within rounding of a circle's edge, in and out are both right: leave out the episodes that come so near.
    gaps = np.abs(np.linalg.norm(after[:, :, None] - goals, axis=-1)[..., None] - [family.radius, family.radius / 2])
    clear = (gaps > 1e-5).all((0, 2, 3))
    assert clear.mean() > 0.9
    np.testing.assert_allclose(reward.T[clear], np.array(expected)[clear], atol=1e-5)
    assert min((reward == 0.0).mean(), (reward > 0.5).mean()) > 0.02  # both kinds occur


def follow(family, tasks, touches):
    """Return of going to `touches` until the first goal is touched and to the last goal from there on, `[n]`."""
    goals = family.task_features(tasks).reshape(len(tasks), -1, 2)
    touched = np.full(len(tasks), len(goals[0]) == 1)

    def choose(position, step):
        touched[np.linalg.norm(position - goals[:, 0], axis=-1) <= family.radius / 2] = True
        return np.clip(np.where(touched[:, None], goals[:, -1], touches) - position, -0.1, 0.1)

    return roll(family, tasks, choose)[3].sum(0)


def plans(first, radius):
    """Points where the first goal can be touched: a ring and the middle, and their nearest points of growing boxes."""
    angle = np.linspace(0.0, 2.0 * np.pi, 180, endpoint=False)
    ring = 0.4985 * radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    points = first[:, None] + np.concatenate([ring, np.zeros((1, 2))])
    return np.concatenate([np.clip(points, -0.1 * steps, 0.1 * steps) for steps in range(3, 7)], 1).astype(np.float32)


@pytest.mark.parametrize("name", HARD)
def test_a_planner_that_knows_both_goals_reaches_the_ceiling_and_does_not_pass_it(name):
    family = FAMILIES[name]
    tasks = family.sample_tasks("test", 12, seed=3)
    points = plans(family.task_features(tasks)[:, :2], family.radius)
    repeated = np.repeat(tasks, points.shape[1], axis=0)
    shares = follow(family, repeated, points.reshape(-1, 2)).reshape(len(tasks), -1) / family.ceiling(tasks)[:, None]
    assert shares.max() <= 1.001
    assert shares.max(1).min() >= 0.985
    assert shares.max(1).mean() >= 0.99


def test_going_straight_to_a_known_goal_reaches_the_ceiling():
    family = FAMILIES["sparse-point-robot"]
    tasks = family.sample_tasks("test", 200, seed=0)
    np.testing.assert_allclose(follow(family, tasks, tasks.repeat(2, 1)), family.ceiling(tasks), rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_hand_written_policy_passes_the_ceiling(name):
    family, rng = FAMILIES[name], np.random.default_rng(0)
    tasks = family.sample_tasks("test", 50, seed=5)
    goals = family.task_features(tasks).reshape(len(tasks), -1, 2)
    heading = rng.uniform(-0.1, 0.1, (len(tasks), 2))
    policies = {
        "stand": lambda position, _: np.zeros_like(position),
        "jitter": lambda position, _: rng.uniform(-0.1, 0.1, position.shape),
        "straight": lambda *_: heading,
        "stay at the first": lambda position, _: goals[:, 0] - position,
        "only the last": lambda position, _: goals[:, -1] - position,
        "first, then the last": lambda position, step: (goals[:, 0] if step < 6 else goals[:, -1]) - position,
        "the last, then the first": lambda position, step: (goals[:, -1] if step < 11 else goals[:, 0]) - position,
        "slowly": lambda position, step: np.clip((goals[:, 0] if step < 12 else goals[:, -1]) - position, -0.05, 0.05),
    }
    for policy in policies.values():
        returns = roll(family, tasks, policy)[3].sum(0)
        assert (returns <= 1.001 * family.ceiling(tasks)).all()


@pytest.mark.parametrize(
    ("name", "expected", "slack"),
    [("hard-point-robot", 151.9, 0.5), ("hard-point-robot-aligned", 162.7, 0.5), ("sparse-point-robot", 13.4, 0.1)],
)
def test_mean_ceilings_are_near_the_known_ones(name, expected, slack):
    # docs/explanation/method.md tells why 148 and 161, of a coarser search, were too low.
    assert FAMILIES[name].ceiling(FAMILIES[name].sample_tasks("test", 200, seed=7)).mean() == pytest.approx(
        expected, abs=slack
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_splits_are_disjoint_and_functions_of_their_seed(name):
    family = FAMILIES[name]
    drawn = {split: family.sample_tasks(split, 200, seed=0) for split in ("train", "test", "ood")}
    rows = [tuple(row) for table in drawn.values() for row in table.tolist()]
    assert len(rows) == len(set(rows)) == 600
    assert np.array_equal(drawn["test"], family.sample_tasks("test", 200, seed=0))
    assert not np.array_equal(drawn["test"], family.sample_tasks("test", 200, seed=1))
    assert (np.concatenate(list(drawn.values())) >= 0.0).all()
    assert (np.concatenate(list(drawn.values())) <= np.pi).all()


def test_goals_are_independent_or_aligned_as_the_name_says():
    independent = FAMILIES["hard-point-robot"].sample_tasks("train", 500, seed=0)
    aligned = FAMILIES["hard-point-robot-aligned"].sample_tasks("train", 500, seed=0)
    assert abs(np.corrcoef(independent.T)[0, 1]) < 0.15
    assert np.array_equal(aligned[:, 0], aligned[:, 1])


@pytest.mark.parametrize("name", FAMILIES)
def test_tasks_are_spread_evenly(name):
    tasks = np.sort(FAMILIES[name].sample_tasks("train", 50, seed=0), axis=0)
    sectors = np.arange(50)[:, None] * np.pi / 50
    assert (tasks >= sectors - 1e-6).all()
    assert (tasks <= sectors + np.pi / 50 + 1e-6).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_reset_forgets_the_episode(name):
    family = FAMILIES[name]
    tasks = torch.from_numpy(family.sample_tasks("train", 3, seed=0))
    env = family.make(tasks)
    first = env.reset().clone()
    rewards = []
    for _ in range(2):
        assert torch.equal(first, env.reset())
        goal = torch.from_numpy(family.task_features(tasks.numpy()))[:, :2]
        position, episode = first, []
        for _ in range(family.horizon):
            after = env.step(goal - position)
            position = after.observation
            episode.append(after.reward)
        rewards.append(torch.stack(episode))
    assert torch.equal(*rewards)


def test_an_unknown_family_is_told_the_nearest_name():
    with pytest.raises(FamilyUnknownError, match="did you mean 'hard-point-robot'"):
        get_family("hard-point-robt")
