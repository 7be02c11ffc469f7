"""What beliefs are worth, in numbers that can be computed by hand, within their bounds."""

import math

import numpy as np
import pytest
import torch
from tiny_run import tiny_experiment

from ccm_training.checkpoint import load_agent, save_checkpoint
from ccm_training.context_quality import quality_of_context
from ccm_training.diagnostics import certain_after, effective_rank, retrieval, silhouette


def clusters(spread, tasks=4, trials=3):
    """Trials around one corner each of a simplex."""
    noise = np.random.default_rng(0).normal(size=(tasks, trials, tasks))
    return np.eye(tasks)[:, None] + spread * noise


def test_every_trial_finds_its_task_where_tasks_lie_apart():
    assert retrieval(clusters(0.01)) == 1.0
    assert silhouette(clusters(0.01)) > 0.9


def test_where_all_beliefs_are_equal_retrieval_is_chance():
    assert retrieval(np.zeros((5, 3, 2))) == pytest.approx(1 / 5)


def test_a_trial_does_not_vouch_for_itself():
    # Both trials of a task lie at opposite ends: each is nearer to the other task than to its own other trial.
    assert retrieval([[[-1.0], [1.0]], [[-1.1], [1.1]]]) == 0.0


def test_retrieval_counts_trials_by_hand():
    # Only the trial at 10 is lost: its own task's others are at 0, the second task is at 9.
    assert retrieval([[[0.0], [0.0], [10.0]], [[9.0], [9.0], [9.0]]]) == pytest.approx(5 / 6)


def test_the_effective_rank_counts_directions_of_equal_spread():
    corners = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert effective_rank(corners) == pytest.approx(2.0)
    assert effective_rank(corners[:2]) == pytest.approx(1.0)
    assert effective_rank(np.ones((4, 3))) == 0.0


def test_the_effective_rank_by_hand():
    # Spreads 3 to 1: shares 3/4 and 1/4.
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("certainty", "expected"), [([0.5, 0.8, 1.0], 3), ([0.5, 0.9, 1.0], 2), ([0.7], 1), ([0.0, 0.0], 1)]
)
def test_a_belief_is_certain_after_the_episode_that_reaches_nine_tenths(certainty, expected):
    assert certain_after(certainty) == expected


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(tiny_experiment(), tmp_path)
    return load_agent(tmp_path)


def test_the_quality_of_a_runs_contexts_stays_within_its_bounds_and_is_a_function_of_the_seed(saved):
    found = quality_of_context(saved)
    assert found == quality_of_context(saved)
    assert (found.tasks, found.chance) == (4, 0.25)
    assert found.bound == pytest.approx(math.log(4))
    assert found.information <= found.bound
    for share in (found.accuracy, found.retrieval, *found.certainty):
        assert 0.0 <= share <= 1.0
    assert -1.0 <= found.silhouette <= 1.0
    assert 0.0 < found.effective_rank <= saved.config.networks.latent
    assert len(found.certainty) == saved.adaptation.episodes


def test_an_encoder_that_says_nothing_of_tasks_tells_nothing(saved):
    with torch.no_grad():
        for encoder in (saved.agent.encoder, saved.agent.momentum_encoder):
            encoder.body[-1].weight.zero_()
    found = quality_of_context(saved)
    assert found.information == pytest.approx(0.0, abs=1e-4)
    assert found.effective_rank == 0.0


def test_without_contrast_there_is_no_accuracy_to_tell(saved):
    encoder = saved.config.encoder.model_copy(update={"contrastive_weight": 0.0})
    found = quality_of_context(
        type(saved)(**{**vars(saved), "config": saved.config.model_copy(update={"encoder": encoder})})
    )
    assert (found.accuracy, found.information) == (None, None)
    assert 0.0 <= found.retrieval <= 1.0
