"""Limits as people name them."""

import pytest
from tiny_bundle import tiny_graphs, write_bundle, write_tiny_bundle

from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError
from ccm_runtime.limits import check_rates, laid_over, parse_rates
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.server import run
from ccm_runtime.specs import BoxSpec
from ccm_runtime.testing import ScriptedPolicy, box, manifest_of

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
    with pytest.raises(ConfigError, match=r"max_rate: expected 1 number, one .* \(action_0\), got 2"):
        check_rates((0.5, 0.5), box("action", 1))


def test_a_rate_that_limits_nothing_is_refused_and_the_whole_range_is_none():
    action = BoxSpec(name="action", labels=("dx", "spin"), units=("m", "1"), low=(-0.7, 0.0), high=(0.7, None))
    check_rates((1.4, 1e30), action)
    with pytest.raises(ConfigError) as refused:
        check_rates((1.5, 0.5), action)
    assert (
        "max_rate: 1.5 for dx (m) limits nothing, as that entry changes by at most 1.4, its whole range; name a "
        "smaller rate, or 1.4 to leave that entry free"
    ) == str(refused.value)


def test_limits_laid_over_a_bundles_are_never_looser():
    bundled = SafetyLimits(max_rate=(0.5, 0.1))
    assert SafetyLimits(max_rate=(0.2, 0.1)) == laid_over(bundled, ACTION, (0.2, 0.2), None)
    assert bundled == laid_over(bundled, ACTION, None, None)
    assert SafetyLimits(max_rate=(0.2, 0.2), fallback="hold") == laid_over(SafetyLimits(), ACTION, (0.2, 0.2), "hold")
    with pytest.raises(ConfigError, match="got 3"):
        laid_over(bundled, ACTION, (1.0, 1.0, 1.0), None)


@pytest.mark.parametrize("agents", [False, True])
def test_a_server_of_several_agents_refuses_rates_that_are_not_of_each_and_says_of_which(tmp_path, agents):
    fits = write_tiny_bundle(tmp_path / "planar" / "v1")
    three = manifest_of(ScriptedPolicy()).model_copy(update={"action": box("action", 3)})
    other = write_bundle(tmp_path / "spatial" / "v1", three, tiny_graphs(three))
    served = {"agents": tmp_path} if agents else {"bundle": (fits, other)}
    why = rf"^{other}: max_rate: expected 3 numbers, .* got 2; one list is for every agent, .* `ccm export --max-rate`$"
    with pytest.raises(ConfigError, match=why):
        run(ServerConfig(port=0, max_rate=(0.5, 0.5), **served))


def test_limits_are_told_in_one_line():
    assert "no limit of an action's change from step to step; fallback zero" == str(SafetyLimits())
    slow = SafetyLimits(max_rate=(0.5, 0.1), fallback="last-safe")
    assert "from step to step an action changes by at most 0.5, 0.1; fallback last-safe" == str(slow)
