"""So many late or mended actions in a row make a session SAFE, and SAFE it stays."""

import asyncio

import numpy as np
import pytest

from ccm_runtime.adapt import Adapter
from ccm_runtime.batching import Stepper
from ccm_runtime.messages import BeginEpisode, Intervention, SafeReason, Transition
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy
from ccm_runtime.vigil import WATCHFUL, VigilLimits

LATE, BOUND = (Intervention.LATE,), (Intervention.BOUND,)
NAN = (Intervention.NOT_FINITE,)


def after(limits, *steps):
    vigil = WATCHFUL
    for interventions in steps:
        vigil = vigil.after(interventions, limits)
    return vigil


@pytest.mark.parametrize("miss", [LATE, NAN, (Intervention.LATE, Intervention.RATE)])
def test_misses_in_a_row_lead_to_safe(miss):
    limits = VigilLimits(max_misses=3)
    assert after(limits, miss, miss).safe is None
    assert SafeReason.MISSES is after(limits, miss, miss, miss).safe


def test_one_action_in_between_that_needed_nothing_starts_the_count_anew():
    assert after(VigilLimits(2, 2), LATE, (), LATE, (), LATE).safe is None


def test_an_action_that_was_only_mended_is_no_miss():
    assert after(VigilLimits(max_misses=1), BOUND, BOUND).safe is None
    assert after(VigilLimits(max_misses=2), LATE, BOUND, LATE).safe is None


def test_interventions_of_any_kind_in_a_row_pull_the_kill_switch():
    assert SafeReason.INTERVENTIONS is after(VigilLimits(None, 3), BOUND, (Intervention.RATE,), BOUND).safe
    assert after(VigilLimits(None, 3), BOUND, BOUND).safe is None


def test_safe_stays_safe():
    safe = after(VigilLimits(1), LATE)
    assert safe is safe.after((), VigilLimits(1))


class Hostile(ScriptedPolicy):
    """Wants far more than it may."""

    def explore(self, observation, belief, noise):
        return np.full((len(observation), 2), 1e6, np.float32)


@pytest.mark.parametrize("others", [0, 3])  # alone, and in a batch
async def test_the_kill_switch_stops_a_hostile_policy_without_a_deadline_too(others):
    adapter, table = Adapter.of(Hostile()), SessionTable(10, 60.0)
    stepper = Stepper(adapter, table, limits=VigilLimits(max_interventions=3))
    sessions = [table.open(adapter.start()) for _ in range(1 + others)]
    moved = Transition(np.zeros(2, np.float32), 0.0)
    for sequence, event in enumerate([BeginEpisode(np.zeros(2, np.float32)), moved, moved, moved], 1):
        answers = await asyncio.gather(*(stepper.step(s.session_id, sequence, event) for s in sessions))
        for answer in answers:
            assert (SafeReason.INTERVENTIONS if sequence >= 3 else None) is answer.safe
            assert ((Intervention.SAFE,) if sequence > 3 else BOUND) == answer.reaction.interventions
            np.testing.assert_array_equal(np.zeros(2) if sequence > 3 else np.ones(2), answer.reaction.action)
