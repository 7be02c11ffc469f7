"""Groups of runs stand by seeds and tasks where every run keeps its tasks' scores, and by seeds alone where not."""

import numpy as np
import pytest

from ccm_training.standing import RunScore, chances_over_first, show_interval, standings
from ccm_training.statistics import Estimate, estimate, probability_of_improvement

RNG = np.random.default_rng(0)
LOW, HIGH = RNG.uniform(0.0, 0.6, (3, 20)), RNG.uniform(0.3, 1.0, (2, 20))


def kept(table):
    return [RunScore(float(np.mean(tasks)), tuple(tasks)) for tasks in table]


def test_seeds_and_their_tasks_are_drawn_where_every_run_keeps_its_tasks_scores():
    low, high = standings([kept(LOW), kept(HIGH)])
    assert (estimate(LOW), estimate(HIGH)) == (low.score, high.score)
    assert low.mean == pytest.approx(LOW.mean())
    assert ("seeds and tasks", "seeds and tasks") == (low.over, high.over)


@pytest.mark.parametrize("without", [RunScore(0.5), RunScore(0.5, (0.5,))])
def test_one_run_without_its_tasks_scores_has_all_groups_drawn_over_seeds_alone(without):
    low, high = standings([kept(LOW), [*kept(HIGH), without]])
    assert estimate(LOW.mean(1)[:, None]) == low.score
    assert ("seeds", "seeds") == (low.over, high.over)


def test_the_interval_of_one_seed_covers_tasks_and_says_so():
    (one,) = standings([kept(LOW[:1])])
    assert ("tasks", (one.score.low, one.score.high)) == (one.over, one.interval)
    assert "0.100 to 0.200 (tasks alone)" == show_interval((0.1, 0.2), one.over)


def test_one_score_has_no_interval_and_a_group_without_a_score_does_not_stand():
    one, none = standings([[RunScore(0.5)], []])
    assert (Estimate(0.5, 0.5, 0.5), None, None) == (one.score, one.interval, none)
    assert "-" == show_interval(one.interval, one.over)


def test_a_chance_is_that_of_improvement_over_the_first_on_the_same_tasks():
    chances = chances_over_first([kept(LOW), kept(HIGH), []])
    assert [None, probability_of_improvement(HIGH, LOW), None] == chances


@pytest.mark.parametrize(
    "groups",
    [
        [],
        [[], kept(LOW)],
        [kept(LOW), [RunScore(0.5)] * 2],
        [kept(LOW[:1]), kept(HIGH)],
        [kept(LOW), kept(HIGH[:1])],
    ],
)
def test_without_several_seeds_that_keep_their_tasks_scores_there_is_no_chance_to_tell(groups):
    assert [None] * len(groups) == chances_over_first(groups)
