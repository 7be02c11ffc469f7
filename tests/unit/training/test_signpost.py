"""Who reads the sign cannot be paid in the same episode, and who does not know the goal loses by going for it."""

import numpy as np
import pytest
import torch

from ccm_training.envs.registry import get_family

FAMILY = get_family("signpost-robot")
STRIDE = 0.25


def roll(tasks, choose):
    """Observations after each step, rewards and endings under `choose(observation)`, each `[horizon, n, ...]`."""
    env = FAMILY.make(torch.from_numpy(tasks))
    seen, trace = env.reset(), []
    for _ in range(FAMILY.horizon):
        after = env.step(torch.as_tensor(choose(seen.numpy()), dtype=torch.float32))
        seen = after.observation
        trace.append([part.numpy() for part in after])
    return [np.stack(column) for column in zip(*trace, strict=True)]


def returns(tasks, choose):
    """Return of an episode, which ends at the wall, `[n]`."""
    _, rewards, ended = roll(tasks, choose)
    before = np.cumsum(ended, 0) - ended == 0
    return (rewards * before).sum(0)


def through(x):
    """Go up to the wall at x, `[n]`."""
    return lambda seen: np.stack([x - seen[:, 0], np.full(len(seen), STRIDE)], -1)


@pytest.fixture
def tasks():
    return FAMILY.sample_tasks("test", 200, seed=0)


def test_the_sign_shows_the_goal_to_who_is_far_enough_down_and_nothing_to_anyone_else(tasks):
    down, rewards, ended = roll(tasks, lambda seen: np.tile([0.0, -STRIDE], (len(seen), 1)))
    assert np.array_equal(down[:, :, 2], np.where(down[:, :, 1] <= -0.75, tasks[:, 0], 0.0))
    assert np.array_equal(np.sort(np.unique(down[:, :, 1])), [-1.0, -0.75, -0.5, -0.25])
    assert not rewards.any()
    assert not ended.any()


def test_an_episode_ends_at_the_wall_and_pays_at_the_goal_alone(tasks):
    rng = np.random.default_rng(0)
    seen, rewards, ended = roll(tasks, lambda seen: rng.uniform(-0.3, [0.3, 0.5], (len(seen), 2)))
    assert np.array_equal(ended, seen[:, :, 1] >= 0.75)
    hit = np.abs(seen[:, :, 0] - tasks[:, 0]) <= FAMILY.radius
    assert np.array_equal(rewards, np.where(ended, np.where(hit, 1.0, -0.5), 0.0))
    assert 0.02 < (ended & hit).mean() < ended.mean() < 0.9


def test_who_knows_the_goal_reaches_the_ceiling_and_who_does_not_loses_wherever_he_goes(tasks):
    assert np.array_equal(FAMILY.ceiling(tasks), returns(tasks, through(tasks[:, 0])))
    for x in np.linspace(-1.0, 1.0, 9):
        assert returns(tasks, through(np.full(len(tasks), x))).mean() < -0.1


def test_there_is_no_time_to_read_the_sign_and_be_paid(tasks):
    """At full stride: three steps down, then up with the goal known."""
    steps = iter(range(FAMILY.horizon))

    def read_and_go(seen):
        down = next(steps) < 3
        return np.stack([tasks[:, 0] - seen[:, 0], np.full(len(seen), -STRIDE if down else STRIDE)], -1)

    assert not returns(tasks, read_and_go).any()


def test_a_reset_of_some_leaves_the_others_where_they_are(tasks):
    env = FAMILY.simulate(tasks)
    env.step(np.full((len(tasks), 2), 0.1, np.float32))
    mask = np.arange(len(tasks)) % 2 == 0
    assert np.array_equal(np.where(mask, 0.0, np.float32(0.1)), env.reset(mask)[:, 0])


def test_pictures_show_where_the_sign_is_read_and_where_the_wall_is(tasks):
    picture = FAMILY.simulate(tasks[:1] * 0.0).frame(0)
    rows = [tuple(picture[round((2.0 - y) / 3.0 * 255), 5]) for y in (1.3, 0.9, 0.3, -0.6, -0.9)]
    above, wall, room, below, sign = rows
    assert above == room == below
    assert wall == sign != room
