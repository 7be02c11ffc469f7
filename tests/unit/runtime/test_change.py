"""A task has changed where all was well before and is not now; then, and if asked to, a trial explores anew."""

import numpy as np
import pytest

from ccm_runtime.adapt import Adapter
from ccm_runtime.belief import ExperienceStats
from ccm_runtime.change import task_changed
from ccm_runtime.errors import BundleSchemaError, TrialOrderError
from ccm_runtime.manifest import Adaptation, from_bytes, to_bytes
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.testing import ScriptedPolicy, manifest_of
from ccm_runtime.trial import ExplorationRenewed, Phase, Trial, advance

EYE = tuple(tuple(float(i == j) for j in range(7)) for i in range(7))
KNOWN = ExperienceStats(
    mean=(0.0,) * 7, scale=(1.0,) * 7, precision=EYE, threshold=30.0, typical_return=10.0, low_return=8.0
)


@pytest.mark.parametrize(
    ("executed", "novel", "changed"),
    [
        ((10.0,), 0.5, False),  # the first: nobody knows how it was before
        ((10.0,), 5.0, False),
        ((10.0, 9.0), 0.5, False),
        ((10.0, 9.0), 1.5, True),
        ((10.0, 4.0), 0.5, True),
        ((10.0, 10.0, 6.0), 0.5, False),
        ((5.0, 1.0), 9.0, False),  # it was never well: to explore again helps nobody
    ],
)
def test_a_task_has_changed_if_all_was_well_before_and_is_not_now(executed, novel, changed):
    assert changed is task_changed(executed, novel, KNOWN)


def test_a_drop_is_seen_where_returns_are_negative_too():
    assert task_changed((-100.0, -160.0), 0.0, None)
    assert not task_changed((-100.0, -140.0), 0.0, None)


def test_exploring_is_renewed_for_so_many_episodes_from_the_next_one_on():
    trial = Trial(2, horizon=5, episodes_finished=7)
    renewed = advance(trial, ExplorationRenewed(2))
    assert Phase.EXPLORE is renewed.phase
    assert 9 == renewed.explore_episodes
    with pytest.raises(TrialOrderError, match="between episodes"):
        advance(Trial(2, 5, 3, 1, in_episode=True), ExplorationRenewed(2))


def test_distances_are_in_units_of_the_threshold():
    far = np.zeros((2, 7), np.float32)
    far[1, 3] = 60.0
    np.testing.assert_allclose([0.0, 2.0], KNOWN.surprise(far))
    assert 1.0 == KNOWN.shortfall(8.0)
    assert 0.0 == KNOWN.shortfall(12.0)


def test_a_manifest_with_experience_reads_as_it_was_written_and_one_of_another_size_is_refused():
    manifest = manifest_of(ScriptedPolicy())
    assert manifest.experience is None
    full = manifest.model_copy(update={"experience": KNOWN})
    assert KNOWN == from_bytes(to_bytes(full)).experience
    short = KNOWN.model_copy(update={"mean": (0.0,)})
    with pytest.raises(BundleSchemaError, match="a transition has 7 entries"):
        from_bytes(to_bytes(manifest.model_copy(update={"experience": short})))


def trial(*, re_explore, returns, **told):
    """Run episodes of one step with these returns; the reactions at their ends."""
    policy = ScriptedPolicy(Adaptation(explore_episodes=1, episodes=4, horizon=1))
    adapter = Adapter.of(policy, experience=KNOWN)
    memory, ends = adapter.start(re_explore=re_explore, **told), []
    for reward in returns:
        for event in (BeginEpisode(np.zeros(2, np.float32)), Transition(np.zeros(2, np.float32), reward)):
            ((memory, reaction),) = adapter.step([memory], [event])
        ends.append(reaction)
    return adapter, memory, ends


def test_after_a_drop_the_trial_forgets_and_explores_anew_and_says_so():
    adapter, memory, ends = trial(re_explore=True, returns=[1.0, 10.0, 10.0, 1.0])
    assert [False, False, False, True] == [end.task_changed for end in ends]
    assert Phase.EXPLORE is ends[-1].phase
    np.testing.assert_array_equal(adapter.initial_belief(), memory.belief)
    assert 0.0 == ends[-1].certainty
    _, _, ends = trial(re_explore=True, returns=[1.0, 10.0, 10.0, 1.0, 1.0, 10.0])
    assert [Phase.EXPLORE, Phase.EXECUTE, Phase.EXECUTE] == [end.phase for end in ends[3:]]


def test_who_did_not_ask_goes_on_executing_but_is_told_of_the_novelty():
    _, _, ends = trial(re_explore=False, returns=[1.0, 10.0, 10.0, 1.0])
    assert not any(end.task_changed for end in ends)
    assert Phase.EXECUTE is ends[-1].phase
    assert ends[2].novelty < 1.0 < ends[3].novelty


def test_a_transition_unlike_all_of_training_is_novel():
    policy = ScriptedPolicy(Adaptation(explore_episodes=1, episodes=4, horizon=9))
    adapter = Adapter.of(policy, experience=KNOWN)
    memory = adapter.start()
    ((memory, _),) = adapter.step([memory], [BeginEpisode(np.zeros(2, np.float32))])
    ((_, near),) = adapter.step([memory], [Transition(np.zeros(2, np.float32), 0.0)])
    ((_, far),) = adapter.step([memory], [Transition(np.full(2, 50.0, np.float32), 0.0)])
    assert near.novelty < 1.0 < far.novelty
