"""What few seeds allow one to say: intervals that hold the truth about as often as they claim."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ccm_training.statistics import (
    Estimate,
    estimate,
    interquartile_mean,
    probability_of_improvement,
)

TABLES = arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-50, 50))


def test_the_interquartile_mean_leaves_a_quarter_out_at_either_end():
    assert interquartile_mean([-900.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 900.0]) == pytest.approx(3.5)
    assert interquartile_mean([7.0]) == 7.0
    assert interquartile_mean([[1.0, 100.0], [2.0, 3.0]], axis=(0, 1)) == pytest.approx(2.5)
    np.testing.assert_allclose(interquartile_mean([[1.0, 2.0, 3.0, 90.0]] * 2, axis=1), [2.5, 2.5])


@given(TABLES)
def test_an_interval_lies_within_the_scores(scores):
    found = estimate(scores, num_resamples=50)
    slack = 1e-9
    assert scores.min() - slack <= found.low <= found.high <= scores.max() + slack
    assert scores.min() - slack <= found.value <= scores.max() + slack


@given(TABLES, st.integers(0, 100))
def test_an_estimate_is_a_function_of_its_seed(scores, seed):
    assert estimate(scores, seed=seed, num_resamples=20) == estimate(scores, seed=seed, num_resamples=20)


def test_equal_scores_leave_no_doubt():
    assert estimate(np.full((3, 10), 0.5)) == Estimate(0.5, 0.5, 0.5)


def test_seeds_that_disagree_widen_the_interval_though_tasks_agree():
    seeds = np.repeat([[0.1], [0.5], [0.9]], 20, axis=1)
    found = estimate(seeds, np.mean)
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.9)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        found = estimate(rng.normal(size=(1, 60)), np.mean, seed=seed, num_resamples=400)
        held += found.low <= 0.0 <= found.high
    assert 0.90 <= held / 200 <= 0.99


def test_probability_of_improvement_counts_wins_and_half_of_ties():
    assert probability_of_improvement([[1.0, 1.0]], [[0.0, 1.0]]).value == 0.75
    assert probability_of_improvement([[1.0], [3.0]], [[2.0], [0.0]]).value == 0.75
    assert probability_of_improvement(np.ones((3, 4)), np.zeros((2, 4))) == Estimate(1.0, 1.0, 1.0)


@given(TABLES)
def test_improvement_over_oneself_is_a_coin_toss(scores):
    assert probability_of_improvement(scores, scores, num_resamples=2).value == pytest.approx(0.5)


@pytest.mark.parametrize("scores", [[], [[[1.0]]], [[float("nan"), 1.0]]])
def test_scores_that_are_no_table_are_refused(scores):
    with pytest.raises(ValueError, match="scores: "):
        estimate(scores)


def test_other_tasks_are_no_baseline():
    with pytest.raises(ValueError, match="the same tasks, got 2 and 3"):
        probability_of_improvement([[1.0, 2.0]], [[1.0, 2.0, 3.0]])
