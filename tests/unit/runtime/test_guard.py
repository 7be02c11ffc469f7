"""The guard mends what is not finite, out of bounds, too fast or late, says so, and leaves a good action alone."""

import numpy as np
import pytest

from ccm_runtime.guard import Guard
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import Intervention
from ccm_runtime.testing import box


def guard(fallback="zero", max_rate=None):
    return Guard.of(box("action", 2, bound=1.0), SafetyLimits(max_rate=max_rate, fallback=fallback))


def vec(*values):
    return np.array(values, np.float32)


def test_a_good_action_passes_untouched():
    checked = guard(max_rate=(0.5, 0.5)).check(vec(0.3, -0.3), vec(0.0, 0.0), None)
    np.testing.assert_array_equal(vec(0.3, -0.3), checked.action)
    assert () == checked.interventions


def test_an_action_out_of_bounds_is_clipped_and_says_so():
    checked = guard().check(vec(3.0, -0.5), None, None)
    np.testing.assert_array_equal(vec(1.0, -0.5), checked.action)
    assert (Intervention.BOUND,) == checked.interventions


def test_rounding_at_the_bound_is_clipped_without_a_word():
    checked = guard().check(vec(np.nextafter(np.float32(1), np.float32(2)), 0.0), None, None)
    np.testing.assert_array_equal(vec(1.0, 0.0), checked.action)
    assert () == checked.interventions


def test_a_fast_action_is_slowed_to_the_rate_from_the_previous_command():
    checked = guard(max_rate=(0.1, 1.0)).check(vec(1.0, 1.0), vec(0.5, 0.5), None)
    np.testing.assert_allclose(vec(0.6, 1.0), checked.action)
    assert (Intervention.RATE,) == checked.interventions


def test_the_first_action_of_an_episode_has_no_rate_to_keep():
    assert () == guard(max_rate=(0.1, 0.1)).check(vec(1.0, 1.0), None, None).interventions


@pytest.mark.parametrize(
    ("fallback", "expected"), [("zero", (0.0, 0.0)), ("hold", (0.5, -0.5)), ("last-safe", (0.25, 0.25))]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_becomes_the_fallback(fallback, expected, bad):
    checked = guard(fallback).check(vec(bad, 0.0), vec(0.5, -0.5), vec(0.25, 0.25))
    np.testing.assert_array_equal(vec(*expected), checked.action)
    assert (Intervention.NOT_FINITE,) == checked.interventions


@pytest.mark.parametrize("fallback", ["hold", "last-safe"])
def test_a_fallback_with_nothing_to_go_back_to_is_zero(fallback):
    np.testing.assert_array_equal(vec(0.0, 0.0), guard(fallback).check(vec(np.nan, 0.0), None, None).action)


def test_a_late_action_becomes_the_fallback():
    checked = guard("hold").check(vec(0.9, 0.9), vec(0.1, 0.1), None, unusable=Intervention.LATE)
    np.testing.assert_array_equal(vec(0.1, 0.1), checked.action)
    assert (Intervention.LATE,) == checked.interventions


def test_a_fallback_keeps_the_rate_too():
    checked = guard("zero", max_rate=(0.1, 0.1)).check(vec(np.nan, 0.0), vec(0.9, 0.0), None)
    np.testing.assert_allclose(vec(0.8, 0.0), checked.action)
    assert (Intervention.NOT_FINITE, Intervention.RATE) == checked.interventions
