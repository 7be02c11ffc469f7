"""Laws of a shadow: it is told what the sessions are told, it compares, and it is never felt."""

import asyncio
import dataclasses
import threading

import numpy as np
import pytest
from durable import event, image

from ccm_runtime import shadow as module
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.manifest import Adaptation
from ccm_runtime.messages import Context, SessionOptions, Transition
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy, served
from ccm_runtime.trial import Phase
from ccm_runtime.versions import Move

HORIZON, EVENTS = 5, 24
REAL = ScriptedPolicy(Adaptation(explore_episodes=2, episodes=4, horizon=HORIZON))
OTHER = ScriptedPolicy(Adaptation(explore_episodes=0, episodes=4, horizon=HORIZON))


class Broken(ScriptedPolicy):
    """Fails at every action."""

    def explore(self, *_):
        raise RuntimeError("the device is lost")


class Lost(ScriptedPolicy):
    """Fails at everything, once it is lost."""

    lost = threading.Event()

    def explore(self, *inputs):
        assert not self.lost.is_set(), "the device is lost"
        return super().explore(*inputs)

    def fold(self, *inputs):
        assert not self.lost.is_set(), "the device is lost"
        return super().fold(*inputs)


class Hanging(ScriptedPolicy):
    """Answers once it may."""

    may = threading.Event()

    def explore(self, *inputs):
        self.may.wait(30)
        return super().explore(*inputs)


def hosting(policy=None, *, alone=True):
    """What hosts an agent, with a shadow that follows when it is told to, or by itself."""
    host = Hosting(served(REAL), SessionTable(100, 60.0), ServerConfig(log_level="error"))
    if policy is not None:
        host.cast_shadow(served(policy))
        if alone:
            host.shadow.stop()
            host.shadow._thread.join()
    return host


async def play(host, num_sessions=3, num_events=EVENTS, applied=None, **options):
    """Tell sessions their events in turn; all answers."""
    opened = [await host.open(SessionOptions(seed=index, **options)) for index in range(num_sessions)]
    answers = []
    for sequence in range(1, num_events + 1):
        for index, session in enumerate(opened):
            told = event(index, sequence)
            if applied is not None and isinstance(told, Transition):
                told = dataclasses.replace(told, applied_action=applied)
            answers.append(await host.step(session.session_id, sequence, told))
    return answers


def said(answers):
    return [image(answer.reaction) for answer in answers]


async def test_a_shadow_of_the_same_bundle_would_have_done_the_same():
    host = hosting(REAL)
    await play(host)
    host.shadow.catch_up()
    counts = host.shadow.counts
    assert (3 * EVENTS, 0, 0) == (counts.num_events, counts.num_dropped, counts.num_failures)
    assert (3 * EVENTS * 5 // 6, 0.0) == (counts.num_actions, counts.sum_of_differences)


@pytest.mark.parametrize(
    "options", [{"explore_episodes": 0}, {"explore_episodes": 3}, {"stochastic": True}, {"re_explore": True}]
)
async def test_a_shadow_follows_sessions_as_they_were_opened(options):
    host = hosting(REAL)
    answers = await play(host, num_events=2 * EVENTS, **options)
    host.shadow.catch_up()
    assert options.get("re_explore", False) is any(answer.reaction.task_changed for answer in answers)
    counts = host.shadow.counts
    assert (2 * 3 * EVENTS, 2 * 3 * EVENTS * 5 // 6) == (counts.num_events, counts.num_actions)
    assert 0.0 == counts.sum_of_differences
    for session in host.table:
        assert image(session.memory) == image(host.shadow._followed[session.session_id].memory)


@pytest.mark.parametrize(("asked", "phase"), [({}, Phase.EXECUTE), ({"explore_episodes": 3}, Phase.EXPLORE)])
async def test_a_shadow_explores_for_as_long_as_its_own_bundle_does_where_the_client_asked_for_nothing_else(
    asked, phase
):
    host = hosting(OTHER)
    await play(host, num_events=1, **asked)
    host.shadow.catch_up()
    assert {phase} == {one.memory.trial.phase for one in host.shadow._followed.values()}


async def test_a_session_that_began_with_a_context_is_not_followed():
    host = hosting(REAL)
    await play(host, num_sessions=1)
    (known,) = host.table
    context = Context(served(REAL).digest, known.memory.belief)
    await play(host, num_sessions=1, num_events=3, context=context)
    host.shadow.catch_up()
    assert ([known.session_id], EVENTS) == (list(host.shadow._followed), host.shadow.counts.num_events)


async def test_a_session_that_goes_on_with_another_version_is_followed_no_more():
    host = hosting(REAL)
    to = host.roster.add(ServedAgent(REAL, served(REAL).manifest, "02" * 32))
    host.roster.rollout().current.stepper.move_on = Move(to, to.adapter.start()).moved
    await play(host, num_sessions=2)
    host.shadow.catch_up()
    assert ([], 2 * (HORIZON + 1)) == (list(host.shadow._followed), host.shadow.counts.num_events)


@pytest.mark.parametrize("applied", [None, np.array([0.25, -0.5], np.float32)])
async def test_a_shadow_learns_from_the_actions_that_were_made_and_not_from_its_own(applied):
    host = hosting(OTHER)
    await play(host, applied=applied)
    host.shadow.catch_up()
    assert host.shadow.counts.sum_of_differences > 0.0
    for session in host.table:
        followed = host.shadow._followed[session.session_id]
        assert image(session.memory.belief) == image(followed.memory.belief)


@pytest.mark.parametrize("policy", [REAL, OTHER, Broken(REAL.adaptation)])
async def test_sessions_are_answered_as_without_a_shadow(policy):
    host = hosting(policy)
    expected, answers = await play(hosting()), await play(host)
    host.shadow.catch_up()
    assert said(expected) == said(answers)


async def test_a_shadow_that_fails_is_counted_and_logged_once(capfd):
    host = hosting(Broken(REAL.adaptation))
    await play(host)
    host.shadow.catch_up()
    assert 3 == host.shadow.counts.num_failures  # each session once: then it is followed no more
    assert 1 == capfd.readouterr().err.count("shadow failed")


async def test_a_shadow_whose_networks_are_lost_is_counted_too(capfd):
    host = hosting(Lost(REAL.adaptation))
    Lost.lost.set()
    await play(host)
    host.shadow.catch_up()
    assert 3 == host.shadow.counts.num_failures
    assert 1 == capfd.readouterr().err.count("shadow failed")


async def test_a_shadow_that_hangs_keeps_nobody_waiting_and_the_queue_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 8)
    host = hosting(Hanging(REAL.adaptation), alone=False)
    try:
        async with asyncio.timeout(20):
            assert said(await play(hosting())) == said(await play(host))
        assert len(host.shadow._queue) <= 8
        assert host.shadow.counts.num_dropped > 0
    finally:
        Hanging.may.set()
        host.shadow.stop()
        host.shadow._thread.join(20)


async def test_a_session_with_a_dropped_event_is_followed_no_more_and_others_are(monkeypatch):
    host = hosting(REAL)
    opened = [await host.open(SessionOptions(seed=index)) for index in range(2)]
    for sequence in range(1, 6):
        monkeypatch.setattr(module, "MAX_WAITING", 0 if sequence == 3 else 100)
        await host.step(opened[0].session_id, sequence, event(0, sequence))
        monkeypatch.setattr(module, "MAX_WAITING", 100)
        await host.step(opened[1].session_id, sequence, event(1, sequence))
    host.shadow.catch_up()
    assert [opened[1].session_id] == list(host.shadow._followed)
    assert (2 + 5, 1) == (host.shadow.counts.num_events, host.shadow.counts.num_dropped)


async def test_a_repeated_event_is_followed_once():
    host = hosting(REAL)
    opened = await host.open(SessionOptions())
    for sequence in (1, 1, 2, 2, 3):
        await host.step(opened.session_id, sequence, event(0, sequence))
    host.shadow.catch_up()
    assert 3 == host.shadow.counts.num_events


async def test_the_sessions_that_are_followed_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_FOLLOWED", 4)
    host = hosting(REAL)
    await play(host, num_sessions=9, num_events=2)
    host.shadow.catch_up()
    assert len(host.shadow._followed) <= 4


def test_a_shadow_with_other_specs_is_refused():
    with pytest.raises(ConfigError, match="shadow: scripted-0 has other observations or actions than scripted-0"):
        hosting(ScriptedPolicy(size=3))
