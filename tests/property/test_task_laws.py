"""Whatever its intervals are, a parameter is drawn from them, evenly, and by its split's own generator."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ccm_training.envs.mujoco.family import Parameter

ENDS = st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True).filter(lambda ends: len(ends) % 2 == 0)


def intervals(ends):
    """Disjoint intervals with these ends."""
    ends = sorted(map(float, ends))
    return tuple(zip(ends[::2], ends[1::2], strict=True))


@given(ENDS, st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_parameter_takes_one_value_of_each_equal_share_of_its_intervals(ends, num, seed):
    chosen = intervals(ends)
    values = Parameter("any", "1", train=chosen).draw("train", num, np.random.default_rng(seed))
    assert values.shape == (num,)
    widths = np.array([high - low for low, high in chosen])
    passed = np.concatenate([[0.0], np.cumsum(widths)])
    along = []
    for value in values:
        (index,) = [i for i, (low, high) in enumerate(chosen) if low - 1e-9 <= value <= high + 1e-9]
        along.append(passed[index] + value - chosen[index][0])
    shares = np.floor(np.sort(along) / passed[-1] * num + 1e-9)
    assert np.abs(shares - np.arange(num)).max() <= 1e-6


@given(ENDS, ENDS, ENDS)
def test_bounds_hold_for_every_split_and_are_reached_by_one(train, test, ood):
    parameter = Parameter("any", "1", train=intervals(train), test=intervals(test), ood=intervals(ood))
    low, high = parameter.bounds
    assert (min(train + test + ood), max(train + test + ood)) == (low, high)
    assert intervals(test) == parameter.intervals("test")


@given(ENDS)
def test_a_split_without_intervals_of_its_own_has_those_of_training(train):
    parameter = Parameter("any", "1", train=intervals(train))
    assert intervals(train) == parameter.intervals("test") == parameter.intervals("ood")
