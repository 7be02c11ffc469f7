"""Limits as people name them."""

import pytest

from ccm_runtime.errors import ConfigError
from ccm_runtime.limits import check_rates, laid_over, parse_rates
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.testing import box

ACTION = box("action", 2)


def test_rates_are_numbers_with_commas_between():
    assert (0.5, 1.0) == parse_rates("0.5, 1")


@pytest.mark.parametrize(
    "text", ["", "0.5,", "0.5;1", "fast,slow", "0,1", "-1,1", "nan,1", "inf,1", "1e-50,1", "1e39,1"]
)
def test_what_is_no_positive_finite_number_is_refused(text):
    with pytest.raises(ConfigError, match=r"max_rate: expected a positive number for each entry .*0\.5,0\.5; got '"):
        parse_rates(text)


def test_rates_are_one_for_each_entry_of_the_action():
    check_rates(None, ACTION)
    check_rates((0.5, 0.5), ACTION)
    with pytest.raises(ConfigError, match=r"max_rate: expected 2 numbers, .* \(action_0, action_1\), got 1"):
        check_rates((0.5,), ACTION)


def test_limits_laid_over_a_bundles_are_never_looser():
    bundled = SafetyLimits(max_rate=(0.5, 0.1))
    assert SafetyLimits(max_rate=(0.2, 0.1)) == laid_over(bundled, ACTION, (0.2, 0.2), None)
    assert bundled == laid_over(bundled, ACTION, None, None)
    assert SafetyLimits(max_rate=(0.2, 0.2), fallback="hold") == laid_over(SafetyLimits(), ACTION, (0.2, 0.2), "hold")
    with pytest.raises(ConfigError, match="got 3"):
        laid_over(bundled, ACTION, (1.0, 1.0, 1.0), None)


def test_limits_are_told_in_one_line():
    assert "no limit of an action's change from step to step; fallback zero" == str(SafetyLimits())
    slow = SafetyLimits(max_rate=(0.5, 0.1), fallback="last-safe")
    assert "from step to step an action changes by at most 0.5, 0.1; fallback last-safe" == str(slow)
