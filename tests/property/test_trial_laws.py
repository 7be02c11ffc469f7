"""Whatever a trial is told, it explores exactly K episodes, never goes back to that, and outlives no horizon."""

from hypothesis import given
from hypothesis import strategies as st

from ccm_runtime.errors import TrialOrderError
from ccm_runtime.trial import Closed, EpisodeBegan, ExplorationCompleted, Phase, Stepped, Trial, advance

events = st.one_of(
    st.builds(EpisodeBegan, abandon=st.booleans()),
    st.builds(Stepped, terminated=st.booleans(), truncated=st.booleans()),
    st.just(Stepped()),
    st.just(ExplorationCompleted()),
)


def survive(trial, event):
    """Return the trial after an event, or as it was if it refuses the event."""
    try:
        return advance(trial, event)
    except TrialOrderError:
        return trial


@given(k=st.integers(0, 5), horizon=st.integers(1, 4), episodes=st.integers(0, 9))
def test_a_trial_explores_exactly_k_episodes(k, horizon, episodes):
    trial, phases = Trial(explore_episodes=k, horizon=horizon), []
    for _ in range(episodes):
        trial = advance(trial, EpisodeBegan())
        phases.append(trial.phase)
        for _ in range(horizon):
            trial = advance(trial, Stepped())
    assert [Phase.EXPLORE if i < k else Phase.EXECUTE for i in range(episodes)] == phases


@given(k=st.integers(0, 5), horizon=st.integers(2, 4), abandoned=st.lists(st.integers(0, 1), min_size=9, max_size=9))
def test_an_episode_that_is_abandoned_does_not_count(k, horizon, abandoned):
    trial, phases = Trial(explore_episodes=k, horizon=horizon), []
    for steps in abandoned:
        trial = advance(trial, EpisodeBegan())
        for _ in range(steps):
            trial = advance(trial, Stepped())
        trial = advance(trial, EpisodeBegan(abandon=True))
        assert (0, True) == (trial.steps_in_episode, trial.in_episode)
        phases.append(trial.phase)
        trial = advance(trial, Stepped(truncated=True))
    assert len(abandoned) == trial.episodes_finished
    assert [Phase.EXPLORE if i < k else Phase.EXECUTE for i in range(len(abandoned))] == phases


@given(k=st.integers(0, 3), horizon=st.none() | st.integers(1, 3), script=st.lists(events, max_size=30))
def test_whatever_comes_a_trial_never_goes_back_to_exploring(k, horizon, script):
    trial, phases = Trial(explore_episodes=k, horizon=horizon), []
    for event in script:
        trial = survive(trial, event)
        phases.append(trial.phase)
    order = {Phase.EXPLORE: 0, Phase.EXECUTE: 1}
    assert sorted(phases, key=order.__getitem__) == phases
    assert sum(phase is Phase.EXPLORE for phase in phases) == 0 or k > 0


@given(horizon=st.integers(1, 3), script=st.lists(events, max_size=30))
def test_no_episode_outlives_the_horizon(horizon, script):
    trial = Trial(explore_episodes=1, horizon=horizon)
    for event in script:
        trial = survive(trial, event)
        assert trial.steps_in_episode <= horizon
        assert not (trial.in_episode and trial.steps_in_episode == horizon)


@given(script=st.lists(events, max_size=10), event=events | st.just(Closed()))
def test_a_closed_trial_is_over(script, event):
    trial = Trial(explore_episodes=1)
    for before in script:
        trial = survive(trial, before)
    closed = advance(trial, Closed())
    assert Phase.CLOSED is closed.phase
    assert closed == survive(closed, event)
