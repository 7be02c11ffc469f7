"""A trial as the server runs it: who acts, on what, what is folded, when exploring ends, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from ccm_runtime.adapt import MAX_EPISODES, Adapter
from ccm_runtime.belief import ExperienceStats, NoveltyStats, Transitions, novelty
from ccm_runtime.config import ServerConfig
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import ConfigError, SpecError, TrialOrderError
from ccm_runtime.manifest import Adaptation, SafetyLimits
from ccm_runtime.memory import close
from ccm_runtime.messages import BeginEpisode, Intervention, Transition
from ccm_runtime.server import read_agent
from ccm_runtime.testing import ScriptedPolicy
from ccm_runtime.trial import Phase

K2 = Adaptation(explore_episodes=2, episodes=4, horizon=3)


def vec(*values):
    return np.array(values, np.float32)


def begin(x=0.5):
    return BeginEpisode(vec(x, -x))


def moved(x=0.25, reward=1.0, **ended):
    return Transition(vec(x, x), reward, **ended)


def adapter(adaptation=K2, **changes):
    return Adapter.of(ScriptedPolicy(adaptation.model_copy(update=changes)))


def play(agent, memory, events):
    """Return the memory and every reaction after `events`."""
    reactions = []
    for event in events:
        ((memory, reaction),) = agent.step([memory], [event])
        reactions.append(reaction)
    return memory, reactions


EPISODE = [begin(), moved(), moved(), moved()]


def test_a_trial_explores_k_episodes_then_executes():
    _, reactions = play(adapter(), adapter().start(), EPISODE * 3)
    phases = [reaction.phase for reaction in reactions if reaction.step == 0]
    assert [Phase.EXPLORE, Phase.EXPLORE, Phase.EXECUTE] == phases


def test_an_episode_ends_at_the_horizon_with_no_action():
    _, reactions = play(adapter(), adapter().start(), EPISODE)
    assert [False, False, False, True] == [reaction.episode_over for reaction in reactions]
    assert reactions[-1].action is None
    assert 1 == reactions[-1].episode


def test_the_explorer_is_given_the_belief_and_the_executor_the_latent():
    agent, policy = adapter(), ScriptedPolicy(K2)
    memory, reactions = play(agent, agent.start(), [begin(), moved()])
    expected = policy.explore(vec(0.25, 0.25)[None], memory.belief[None], np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(expected[0], reactions[-1].action)
    memory, reactions = play(agent, agent.start(explore_episodes=0), [begin(), moved()])
    expected = policy.execute(vec(0.25, 0.25)[None], memory.latent_mean[None], np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(expected[0], reactions[-1].action)


def test_a_transition_is_folded_with_the_action_that_was_given():
    agent, policy = adapter(), ScriptedPolicy(K2)
    memory, (reaction,) = play(agent, agent.start(), [begin()])
    after, _ = play(agent, memory, [moved()])
    rows = (vec(0.5, -0.5), reaction.action, vec(1.0), vec(0.25, 0.25), vec(1.0))
    folded = policy.fold(memory.belief[None], Transitions(*(row[None, None] for row in rows)))
    np.testing.assert_array_equal(folded.belief[0], after.belief)


def test_a_transition_is_folded_with_the_applied_action_where_it_differs():
    agent = adapter()
    memory, _ = play(agent, agent.start(), [begin()])
    as_given, _ = play(agent, memory, [moved()])
    otherwise, _ = play(agent, memory, [replace(moved(), applied_action=vec(-1.0, 1.0))])
    assert not np.array_equal(as_given.belief, otherwise.belief)


def test_the_belief_is_carried_over_episodes():
    agent = adapter()
    memory, _ = play(agent, agent.start(), EPISODE)
    after, _ = play(agent, memory, [begin()])
    np.testing.assert_array_equal(memory.belief, after.belief)


def test_the_latent_follows_the_belief_while_executing():
    agent = adapter(while_executing=True)
    memory, _ = play(agent, agent.start(explore_episodes=0), [begin(), moved()])
    np.testing.assert_array_equal(memory.latent_mean, memory.latent)


def test_the_latent_is_fixed_for_an_episode_if_asked_while_the_belief_goes_on():
    agent = adapter(while_executing=False)
    began, _ = play(agent, agent.start(explore_episodes=0), [begin()])
    memory, _ = play(agent, began, [moved(), moved()])
    np.testing.assert_array_equal(began.latent, memory.latent)
    assert not np.array_equal(memory.latent_mean, memory.latent)
    again, _ = play(agent, memory, [moved(), begin()])
    np.testing.assert_array_equal(again.latent_mean, again.latent)


def test_a_sampled_latent_is_drawn_when_an_episode_begins_and_held():
    agent = adapter(latent="sample")
    began, _ = play(agent, agent.start(seed=3, explore_episodes=0), [begin()])
    memory, _ = play(agent, began, [moved(), moved()])
    assert not np.array_equal(began.latent_mean, began.latent)
    np.testing.assert_array_equal(began.latent, memory.latent)
    again, _ = play(agent, memory, [moved(), begin()])
    assert not np.array_equal(again.latent, memory.latent)


def test_posterior_sampling_explores_with_the_executor():
    agent, policy = adapter(latent="sample", explore_with="latent"), ScriptedPolicy(K2)
    memory, (reaction,) = play(agent, agent.start(seed=3), [begin()])
    expected = policy.execute(vec(0.5, -0.5)[None], memory.latent[None], np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(expected[0], reaction.action)
    assert Phase.EXPLORE is reaction.phase


def test_an_agent_that_observes_rewards_sees_the_last_one_and_none_at_the_beginning():
    agent = adapter(observe_reward=True)
    memory, _ = play(agent, agent.start(), [begin(), moved(reward=2.0)])
    np.testing.assert_array_equal(vec(0.25, 0.25, 2.0), memory.observation)
    memory, _ = play(agent, memory, [moved(terminated=True), begin()])
    np.testing.assert_array_equal(vec(0.5, -0.5, 0.0), memory.observation)


def test_exploring_ends_early_once_the_belief_is_certain_but_not_within_an_episode():
    agent = adapter(certain_at=0.4, explore_episodes=5)
    _, reactions = play(agent, agent.start(), EPISODE)
    assert [Phase.EXPLORE] * 3 == [reaction.phase for reaction in reactions[:3]]
    assert reactions[2].certainty >= 0.4
    assert Phase.EXECUTE is reactions[3].phase


def test_noise_is_a_function_of_the_seed_and_the_event():
    agent = adapter()
    _, one = play(agent, agent.start(seed=7, stochastic=True), EPISODE)
    _, same = play(agent, agent.start(seed=7, stochastic=True), EPISODE)
    _, other = play(agent, agent.start(seed=8, stochastic=True), EPISODE)
    _, calm = play(agent, agent.start(seed=7), EPISODE)
    np.testing.assert_array_equal(one[0].action, same[0].action)
    assert not np.array_equal(one[0].action, other[0].action)
    assert not np.array_equal(one[0].action, calm[0].action)


def test_many_trials_in_one_batch_do_what_each_does_alone():
    agent = adapter()
    starts = [agent.start(seed=i, stochastic=True, explore_episodes=i % 3) for i in range(5)]
    scripts = [[begin(0.1 * i), moved(0.2 * i), moved(0.3, terminated=i == 2), begin(0.4)] for i in range(5)]
    scripts = [[e for k, e in enumerate(s) if k < 3 or i == 2] for i, s in enumerate(scripts)]
    together = list(starts)
    for step in range(3):
        together = [memory for memory, _ in agent.step(together, [script[step] for script in scripts])]
    for start, script, batched in zip(starts, scripts, together, strict=True):
        alone, _ = play(agent, start, script[:3])
        np.testing.assert_array_equal(alone.belief, batched.belief)
        assert alone.trial == batched.trial


def test_returns_are_kept_for_each_episode():
    memory, _ = play(adapter(), adapter().start(), EPISODE * 2)
    assert (3.0, 3.0) == memory.returns


def test_an_episode_that_is_abandoned_begins_again_with_what_was_told_of_it_and_without_its_return():
    agent = adapter()
    left, _ = play(agent, agent.start(), [*EPISODE, begin(), moved(), moved()])
    again, (reaction,) = play(agent, left, [replace(begin(), abandon=True)])
    np.testing.assert_array_equal(left.belief, again.belief)
    assert (1, 0, False) == (reaction.episode, reaction.step, reaction.episode_over)
    assert (3.0,) == again.returns
    over, _ = play(agent, again, EPISODE[1:])
    assert (3.0, 3.0) == over.returns
    assert 2 == over.trial.episodes_finished


def test_abandoning_when_no_episode_is_under_way_is_a_beginning_as_any():
    agent = adapter()
    plain, _ = play(agent, agent.start(), [begin()])
    memory, _ = play(agent, agent.start(), [replace(begin(), abandon=True)])
    assert plain.trial == memory.trial
    with pytest.raises(TrialOrderError, match="closed"):
        agent.check(close(memory), replace(begin(), abandon=True))


def test_a_context_to_begin_with_is_the_first_belief():
    agent = adapter()
    known, _ = play(agent, agent.start(), EPISODE)
    np.testing.assert_array_equal(known.latent_mean, agent.start(belief=known.belief).latent_mean)


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        (BeginEpisode(vec(1.0)), SpecError, "observation: expected 2 values"),
        (BeginEpisode(vec(np.nan, 0.0)), SpecError, "must be finite"),
        (moved(), TrialOrderError, "begin one before stepping"),
    ],
)
def test_an_event_that_does_not_fit_is_refused(event, error, message):
    with pytest.raises(error, match=message):
        adapter().step([adapter().start()], [event])


@pytest.mark.parametrize("reward", [np.nan, np.inf, 1e39])
def test_a_reward_that_is_not_finite_is_refused(reward):
    memory, _ = play(adapter(), adapter().start(), [begin()])
    with pytest.raises(SpecError, match="reward is"):
        adapter().step([memory], [moved(reward=reward)])


def test_a_second_beginning_is_refused():
    memory, _ = play(adapter(), adapter().start(), [begin()])
    with pytest.raises(TrialOrderError, match="still under way after 0 steps"):
        adapter().step([memory], [begin()])


def test_a_trial_does_not_grow_for_ever():
    memory = adapter().start()
    old = memory._replace(trial=memory.trial._replace(episodes_finished=MAX_EPISODES))
    with pytest.raises(TrialOrderError, match="at most 10000 episodes"):
        adapter().step([old], [begin()])


@pytest.mark.parametrize("options", [{"explore_episodes": -1}, {"explore_episodes": 10**9}, {"seed": -1}])
def test_absurd_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        adapter().start(**options)


def test_a_belief_of_another_size_is_refused():
    with pytest.raises(SpecError, match="belief: expected 4 finite numbers"):
        adapter().start(belief=vec(1.0))


def test_a_belief_that_reads_as_nothing_is_refused():
    with np.errstate(all="ignore"), pytest.raises(SpecError, match="no latent can be read"):
        adapter().start(belief=vec(0.0, 0.0, 0.0, 0.0))


def test_a_freak_transition_cannot_poison_the_belief():
    class Overflowing(ScriptedPolicy):
        def fold(self, belief, transitions):
            folded = super().fold(belief, transitions)
            return folded._replace(belief=folded.belief * np.where(transitions.reward[:, 0] > 9, np.inf, 1))

    agent = Adapter.of(Overflowing(K2))
    memory, _ = play(agent, agent.start(), [begin()])
    after, _ = play(agent, memory, [moved(reward=10.0)])
    np.testing.assert_array_equal(memory.belief, after.belief)


def test_the_guard_has_the_last_word_and_its_command_is_the_one_remembered():
    agent = Adapter.of(ScriptedPolicy(K2), SafetyLimits(max_rate=(0.01, 0.01)))
    memory, reactions = play(agent, agent.start(), [begin(), moved(-3.0)])
    assert (Intervention.RATE,) == reactions[-1].interventions
    np.testing.assert_allclose(reactions[0].action - 0.01, reactions[-1].action, atol=1e-6)
    np.testing.assert_array_equal(reactions[-1].action, memory.command)


def test_a_late_action_is_the_fallback():
    agent = adapter()
    (proposal,) = agent.propose([agent.start()], [begin()])
    _, reaction = agent.conclude(proposal, unusable=Intervention.LATE)
    np.testing.assert_array_equal(vec(0.0, 0.0), reaction.action)
    assert (Intervention.LATE,) == reaction.interventions


def test_novelty_is_the_distance_to_the_training_tasks():
    stats = NoveltyStats(mean=(0.0, 0.0), precision=((1.0, 0.0), (0.0, 1.0)), threshold=0.5)
    agent = Adapter.of(ScriptedPolicy(K2), novelty_stats=stats)
    memory, reactions = play(agent, agent.start(), EPISODE)
    assert float(np.linalg.norm(memory.latent_mean) / 0.5) == pytest.approx(reactions[-1].novelty)


@pytest.fixture(scope="module")
def trained():
    return read_agent(embedded_bundle(), ServerConfig()).adapter()


FAR = [1e18, 1e20, 1e30, 3e38, float(np.finfo(np.float32).max)]


@pytest.mark.parametrize("far", FAR)
def test_what_is_too_far_off_to_be_computed_is_novel_and_no_warning(far):
    largest = np.array([[-far, far]], np.float32)
    belief = NoveltyStats(mean=(0.0, 0.0), precision=((2.0, 1.0), (1.0, 2.0)), threshold=0.5)
    eye = tuple(tuple(float(i == j) for j in range(7)) for i in range(7))
    seen = ExperienceStats(
        mean=(0.0,) * 7, scale=(1.0,) * 7, precision=eye, threshold=3.0, typical_return=1.0, low_return=0.0
    )
    agent = replace(Adapter.of(ScriptedPolicy(K2)), experience=seen)
    _, reactions = play(agent, agent.start(), [begin(-far), moved(far)])
    assert 1e18 < float(novelty(largest, belief)[0]) < np.inf
    assert 1e16 < reactions[-1].novelty < np.inf


@pytest.mark.parametrize("where", ["observation", "change", "reward", "applied action"])
@pytest.mark.parametrize("far", FAR)
def test_a_trained_agent_meets_what_is_far_off_without_a_warning(trained, far, where):
    there, here = vec(far, -far), vec(0.0, 0.0)
    first, then = {"observation": (here, there), "change": (-there, there)}.get(where, (here, here))
    event = Transition(
        then, far if where == "reward" else 0.0, applied_action=there if where == "applied action" else None
    )
    memory, _ = play(trained, trained.start(), [BeginEpisode(first)])
    _, (reaction,) = play(trained, memory, [event])
    assert 1e16 < reaction.novelty < np.inf
    assert 0.0 <= reaction.certainty <= 1.0
    assert np.isfinite(reaction.action).all()


def test_a_closed_trial_takes_nothing_more():
    closed = close(adapter().start())
    with pytest.raises(TrialOrderError, match="closed"):
        adapter().step([closed], [begin()])
    with pytest.raises(TrialOrderError, match="closed already"):
        close(closed)
