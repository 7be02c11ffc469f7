"""What `ccm soak` calls growth, and a short soak of a real server."""

import json

import pytest
from command import ccm, fails

from ccm_runtime.commands.soak_robots import Robots
from ccm_runtime.commands.soak_verdicts import Window, verdicts
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import CcmError
from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import ScriptedPolicy, serve

MEMORY, DESCRIPTORS, THREADS, TASKS, SESSIONS, TAIL, COST, STORE = range(8)
QUIET = Window(
    steps=0, per_s=5000.0, p50_ms=1.0, p99_ms=2.0, cpu_us=80.0, own_us=40.0, resident_mb=100.0, descriptors=80,
    threads=20, tasks=140, sessions=64, store_mb=4.0, trials=0,
)  # fmt: skip


def story(num=30, steps=20_000, **grown):
    """Windows of a server: `grown` tells what each value is `share` of the way through (0 to 1)."""
    shares = [index / (num - 1) for index in range(num)]
    return [
        QUIET._replace(steps=(index + 1) * steps, **{name: of(share) for name, of in grown.items()})
        for index, share in enumerate(shares)
    ]


def test_a_server_that_stays_as_it_is_is_held_to_every_law():
    judged = verdicts(story())
    assert [True] * 8 == [verdict.held for verdict in judged]
    assert {0.0} == {verdict.found for verdict in judged}


@pytest.mark.parametrize(
    ("name", "grows", "law"),
    [
        ("resident_mb", lambda share: 100.0 + 8.0 * share, MEMORY),  # over 580,000 steps
        ("descriptors", lambda share: 80 + round(2 * share), DESCRIPTORS),
        ("threads", lambda share: 20 + round(6 * share), THREADS),
        ("tasks", lambda share: 140 + round(3 * share), TASKS),
        ("sessions", lambda share: 64 + round(2 * share), SESSIONS),
        ("p99_ms", lambda share: 2.0 * (1.0 + 0.3 * share), TAIL),
        ("cpu_us", lambda share: 80.0 * (1.0 + 0.3 * share), COST),
        ("store_mb", lambda share: 4.0 + 2.0 * share, STORE),
    ],
)
def test_what_grows_is_told_and_nothing_else(name, grows, law):
    assert [index != law for index in range(8)] == [verdict.held for verdict in verdicts(story(**{name: grows}))]


def test_a_log_that_grows_and_is_emptied_is_no_growth():
    assert verdicts(story(store_mb=lambda share: 1.0 + 4.0 * (7.3 * share % 1.0)))[STORE].held


def test_warming_up_and_one_bad_moment_are_no_growth():
    warming = story(resident_mb=lambda share: 80.0 if share < 0.1 else 100.0)
    assert verdicts(warming)[MEMORY].held
    bad = story(p99_ms=lambda share: 900.0 if share == 1.0 else 2.0, descriptors=lambda share: 80 + (share == 1.0))
    assert all(verdict.held for verdict in verdicts(bad))


def test_a_machine_that_slows_everybody_down_is_no_drift():
    slower = {"p99_ms": lambda s: 2.0 * (1 + s), "cpu_us": lambda s: 80.0 * (1 + s), "own_us": lambda s: 40.0 * (1 + s)}
    assert all(verdict.held for verdict in verdicts(story(**slower)))


def test_of_too_few_steps_nothing_is_told():
    judged = verdicts(story(steps=100, resident_mb=lambda share: 100.0 + share, tasks=lambda share: 140 + 9 * share))
    assert {None} == {verdict.held for verdict in judged}


def test_without_a_store_none_is_judged():
    assert 7 == len(verdicts(story(store_mb=lambda _: 0.0)))


AGENT = ScriptedPolicy(Adaptation(explore_episodes=1, episodes=2, horizon=3))


def test_robots_run_trial_after_trial():
    with serve(AGENT, ServerConfig(port=0, log_level="error", max_sessions=4)) as address:
        robots = Robots(address, 3, 2, episodes=2)
        stretches = [robots.walk(60) for _ in range(2)]
        robots.close()
    assert 120 <= sum(len(stretch.latencies_s) for stretch in stretches) <= 126
    # 2 episodes are 8 events: the beginning of each, and 3 steps
    assert sum(stretch.num_trials for stretch in stretches) in range(120 // 8 - 3, 120 // 8 + 1)


def test_a_refused_step_ends_a_soak():
    with serve(AGENT, ServerConfig(port=0, log_level="error", max_sessions=2)) as address:
        robots = Robots(address, 3, 2, episodes=2)
        with pytest.raises(CcmError):
            robots.walk(100)
        robots.close()


def test_the_command_soaks_a_server_and_its_store(tiny_bundle, tmp_path):
    store = ("--store", tmp_path / "s.db")
    finished = ccm("soak", tiny_bundle, "--steps", 2000, "--sessions", 8, *store, "--json", timeout=280)
    assert 0 == finished.returncode, finished.stderr
    found = json.loads(finished.stdout)
    assert 2000 <= found["steps"] < 2500
    assert 0 < found["trials"]
    assert {None} == {verdict["held"] for verdict in found["verdicts"]}  # too few steps to tell
    windows = found["windows"]
    assert all(sessions <= 8 for sessions in windows["sessions"])
    assert 0.0 < min(windows["store_mb"])
    assert 8 <= min(windows["tasks"]) <= max(windows["tasks"]) <= 64
    assert max(windows["descriptors"]) <= 64


def test_a_store_that_cannot_be_used_ends_a_soak(tiny_bundle, tmp_path):
    store = tmp_path / "s.db"
    store.symlink_to(tmp_path / "nowhere" / "s.db")
    finished = ccm("soak", tiny_bundle, "--steps", 200, "--sessions", 2, "--store", store, "--json")
    assert fails(finished, 2, "cannot be used", "; mend it, name another FILE with --store, or go on without one")
    assert "--store-failure" not in finished.stderr  # an option of `ccm serve`
