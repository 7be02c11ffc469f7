"""A task is given its own trials, the oldest is overwritten first, and sampling is a function of chance."""

import pytest
import torch

from ccm_training.replay import Replay, Rows

TASKS, CAPACITY, EPISODES, HORIZON = 5, 3, 4, 6


def replay() -> Replay:
    return Replay(
        tasks=TASKS,
        capacity=CAPACITY,
        episodes=EPISODES,
        horizon=HORIZON,
        observation=2,
        action=1,
        device=torch.device("cpu"),
    )


def marked(tasks: list[int], number: int) -> Rows:
    """Trials whose reward says task, number of the trial, episode and step as digits."""
    shape = (len(tasks), EPISODES, HORIZON, 1)
    mark = torch.tensor(tasks).view(-1, 1, 1, 1) * 1000 + number * 100
    mark = mark + torch.arange(EPISODES).view(1, -1, 1, 1) * 10 + torch.arange(HORIZON).view(1, 1, -1, 1)
    rest = torch.zeros(shape)
    return Rows(rest.expand(*shape[:3], 2), rest, mark.float(), rest.expand(*shape[:3], 2), rest, rest + 1.0)


def filled(num_trials: int) -> Replay:
    store = replay()
    for number in range(num_trials):
        store.add(torch.arange(TASKS), marked(list(range(TASKS)), number))
    return store


def digits(reward: torch.Tensor) -> dict[str, torch.Tensor]:
    value = reward[..., 0].long()
    return {"task": value // 1000, "trial": value // 100 % 10, "episode": value // 10 % 10, "step": value % 10}


def chance(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("num_trials", "kept"), [(1, {0}), (2, {0, 1}), (3, {0, 1, 2}), (7, {4, 5, 6})])
def test_the_oldest_trial_is_overwritten_first(num_trials, kept):
    found = digits(filled(num_trials).sample_trials(torch.tensor([1, 3]), chance(2, 200)).reward)
    assert set(found["trial"].unique().tolist()) == kept


def test_a_task_is_given_its_own_trials_whole_and_in_order():
    tasks = torch.tensor([4, 0, 2])
    found = digits(filled(5).sample_trials(tasks, chance(3, 7)).reward)
    assert found["task"].shape == (3, 7, EPISODES, HORIZON)
    assert (found["task"] == tasks.view(-1, 1, 1, 1)).all()
    assert (found["trial"] == found["trial"][..., :1, :1]).all()
    assert (found["episode"] == torch.arange(EPISODES)[:, None]).all()
    assert (found["step"] == torch.arange(HORIZON)).all()


def test_rows_come_from_everywhere_in_a_tasks_own_trials():
    found = digits(filled(2).sample_rows(torch.tensor([1, 2]), chance(2, 2000)).reward)
    assert (found["task"] == torch.tensor([[1], [2]])).all()
    assert set(found["trial"].unique().tolist()) == {0, 1}
    assert set(found["episode"].unique().tolist()) == set(range(EPISODES))
    assert set(found["step"].unique().tolist()) == set(range(HORIZON))


@pytest.mark.parametrize("num_trials", [1, 2, 3, 7])
def test_the_least_and_the_greatest_chance_are_the_first_and_the_last_row(num_trials):
    extremes = torch.tensor([[0.0, 1.0 - 2.0**-24]]).expand(TASKS, -1)
    drawn = filled(num_trials).sample_rows(torch.arange(TASKS), extremes)
    stored = filled(num_trials).rows.reward[:, : min(num_trials, CAPACITY)].flatten(1)
    assert torch.equal(stored[:, [0, -1]], drawn.reward[..., 0])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("num_trials", [1, 3, 7])
def test_a_share_of_the_rows_comes_from_the_last_episodes_and_the_others_from_everywhere(num_trials, share):
    tasks = torch.tensor([1, 4])
    found = digits(filled(num_trials).sample_rows(tasks, chance(2, 20_000), last=1, share=share).reward)
    assert (found["task"] == tasks[:, None]).all()
    assert len(found["trial"].unique()) == min(num_trials, CAPACITY)
    assert len(found["step"].unique()) == HORIZON
    of_each = torch.bincount(found["episode"].flatten(), minlength=EPISODES) / 40_000
    expected = (1.0 - share) / EPISODES + share * torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert torch.allclose(of_each, expected, atol=0.01)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.9, 1.0])
def test_no_chance_leads_to_another_tasks_rows(share):
    edges = torch.tensor([share, 1.0])
    extremes = torch.cat([edges, edges.nextafter(torch.tensor(0.0)), edges[:1].nextafter(torch.tensor(1.0))])
    extremes = extremes[extremes < 1.0].expand(TASKS, -1)
    found = digits(filled(5).sample_rows(torch.arange(TASKS), extremes, last=2, share=share).reward)
    assert (found["task"] == torch.arange(TASKS)[:, None]).all()


def test_tasks_are_filled_independently():
    store = filled(1)
    store.add(torch.tensor([2]), marked([2], 8))
    assert set(digits(store.sample_trials(torch.tensor([2]), chance(1, 100)).reward)["trial"].unique().tolist()) == {
        0,
        8,
    }
    assert digits(store.sample_trials(torch.tensor([1]), chance(1, 100)).reward)["trial"].unique().tolist() == [0]


def test_sampling_is_a_function_of_chance():
    store = filled(3)
    first, second, other = (store.sample_rows(torch.tensor([0]), chance(1, 50, seed=seed)).reward for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
