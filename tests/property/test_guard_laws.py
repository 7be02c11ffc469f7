"""Whatever a policy says, what leaves the guard is finite, within its bounds and no faster than allowed."""

import dataclasses

import hostile_model
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm_runtime.guard import Guard
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import Intervention
from ccm_runtime.specs import BoxSpec

SIZE = 3
anything = st.floats(width=32, allow_nan=True, allow_infinity=True)
finite = st.floats(-1e6, 1e6, width=32)


@st.composite
def guards(draw):
    edges = draw(st.lists(st.tuples(finite, finite), min_size=SIZE, max_size=SIZE))
    names = tuple("abc")
    spec = BoxSpec(
        name="action",
        labels=names,
        units=("1",) * SIZE,
        low=tuple(draw(st.none() | st.just(min(edge))) for edge in edges),
        high=tuple(draw(st.none() | st.just(max(edge))) for edge in edges),
    )
    rate = draw(st.none() | st.tuples(*[st.floats(0.0625, 1e4, width=32)] * SIZE))
    return Guard.of(spec, SafetyLimits(max_rate=rate, fallback=draw(st.sampled_from(["hold", "zero", "last-safe"]))))


def vectors(entries):
    return st.lists(entries, min_size=SIZE, max_size=SIZE).map(lambda values: np.array(values, np.float32))


@given(
    guard=guards(),
    hostile=st.lists(vectors(anything), min_size=1, max_size=10),
    late=st.lists(st.booleans(), min_size=10, max_size=10),
)
def test_no_hostile_policy_gets_past_the_guard(guard, hostile, late):
    previous = last_safe = None
    for proposed, is_late in zip(hostile, late, strict=False):
        guarded = guard.check(proposed, previous, last_safe, unusable=Intervention.LATE if is_late else None)
        action = guarded.action
        assert np.isfinite(action).all()
        assert (action >= guard.low).all()
        assert (action <= guard.high).all()
        if previous is not None:
            rounding = 1e-6 * np.maximum(np.abs(action), np.abs(previous))
            rate = np.inf if guard.max_rate is None else guard.max_rate
            assert (np.abs(action.astype(float) - previous) <= rate + rounding).all()
        last_safe = last_safe if guarded.interventions else action
        previous = action


@given(guard=guards(), wanted=vectors(finite))
def test_what_the_guard_let_pass_passes_again(guard, wanted):
    first = guard.check(wanted, None, None).action
    again = guard.check(first, first, first)
    np.testing.assert_array_equal(first, again.action)
    assert () == again.interventions


@given(
    guard=guards(),
    rows=st.lists(st.tuples(vectors(anything), st.none() | vectors(finite)), min_size=1, max_size=6),
)
def test_many_actions_at_once_are_judged_as_each_alone(guard, rows):
    proposed, previous = zip(*rows, strict=True)
    together = guard.check_rows(np.array(proposed), previous, previous)
    for guarded, action, before in zip(together, proposed, previous, strict=True):
        alone = guard.check(action, before, before)
        np.testing.assert_array_equal(alone.action, guarded.action)
        assert alone.interventions == guarded.interventions


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_of_hostile_models_gets_past_whatever_the_actuators_are(seed):
    found = hostile_model.campaign(10_000, seed)
    assert [] == found["violations"]
    assert {"bound", "rate", "not-finite", "late"} == set(found["interventions"])


def test_a_guard_that_forgets_a_limit_is_found_out():
    def too_slow_to_notice(guard):
        return dataclasses.replace(guard, max_rate=None)

    def generous(guard):
        return dataclasses.replace(guard, high=guard.high + np.float32(0.01))

    assert ["too fast"] == hostile_model.campaign(2_000, 0, too_slow_to_notice)["violations"]
    assert "out of bounds" in hostile_model.campaign(2_000, 0, generous)["violations"]
