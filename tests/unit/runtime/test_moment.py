"""How old what was stored is: by the time since the machine's boot, and by the wall clock only after a reboot."""

from types import SimpleNamespace

import pytest

from ccm_runtime.moment import Moment

HOUR_S = 3_600.0


def test_a_moment_is_told_by_both_clocks(monkeypatch):
    now = SimpleNamespace(time=lambda: 1_000.0, monotonic=lambda: 50.0)
    monkeypatch.setattr("ccm_runtime.moment.time", now)
    assert (1_000.0, 50.0) == (Moment.now().wall_s, Moment.now().since_boot_s)


@pytest.mark.parametrize("jump_s", [0.0, HOUR_S, -HOUR_S, 2_147_483_648.0])
def test_while_the_machine_is_up_setting_its_clock_makes_nothing_older_or_younger(jump_s):
    then, now = Moment(1_000.0, "boot", 50.0), Moment(1_000.0 + HOUR_S + jump_s, "boot", 50.0 + HOUR_S)
    assert HOUR_S == then.age_s(now)


@pytest.mark.parametrize(("before", "after"), [("boot", "another"), ("", ""), ("boot", ""), ("", "boot")])
def test_after_a_reboot_or_where_none_is_told_the_wall_clock_decides(before, after):
    then, now = Moment(1_000.0, before, 9_999.0), Moment(1_000.0 + HOUR_S, after, 5.0)
    assert HOUR_S == then.age_s(now)


@pytest.mark.parametrize("boot", ["boot", "another"])
def test_nothing_is_younger_than_now(boot):
    assert 0.0 == Moment(2_000.0, "boot", 60.0).age_s(Moment(1_000.0, boot, 50.0))
