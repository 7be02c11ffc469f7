"""RL2 and VariBAD: what the memory is, and which loss teaches which part."""

import math

import pytest
import torch
from tiny_run import tiny_on_policy

from ccm_runtime.errors import ConfigError
from ccm_training.onpolicy import course
from ccm_training.onpolicy.recurrent_ppo import FreshNoise, RunningStatistics, pick
from ccm_training.onpolicy.varibad import variational_loss
from ccm_training.replay import Rows
from ccm_training.rollout import run_trials
from ccm_training.stopping import Stop

MEMORY = ("embed", "cell", "readout")


@pytest.fixture(params=["rl2", "varibad"])
def run(request):
    return tiny_on_policy(request.param)


@pytest.mark.parametrize("method", ["rl2", "varibad"])
@pytest.mark.parametrize("trial", [{"latent": "sample"}, {"while_executing": False}])
def test_it_learns_from_nothing_else_than_what_it_acted_on(method, trial):
    with pytest.raises(ConfigError, match=rf"{method}.*expected trial\.latent=mean and trial\.while_executing=true"):
        tiny_on_policy(method, trial=trial)


def rows(num=3, steps=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (3, 2, 1, 3)
    drawn = (torch.randn(num, steps, size, generator=generator) for size in sizes)
    return Rows(*drawn, torch.zeros(num, steps, 1), (torch.rand(num, steps, 1, generator=generator) < 0.7).float())


def at(some, steps):
    return Rows(*(field[:, steps] for field in some))


def test_a_whole_trial_is_remembered_as_its_steps_are_one_by_one(run):
    some, policy = rows(), run.policy_for(run.tasks)
    states, belief = run.agent.unroll(some), policy.initial_belief(3)
    for step in range(7):
        torch.testing.assert_close(states[:, step], belief)
        belief = policy.fold(belief, at(some, step))
    torch.testing.assert_close(states[:, 7], belief)


def test_padding_leaves_the_memory_as_it_is_and_all_else_changes_it(run):
    some, policy = rows(), run.policy_for(run.tasks)
    before = policy.fold(policy.initial_belief(3), at(rows(seed=1), 0))
    after = policy.fold(before, at(some, 0))
    assert torch.equal(after == before, (at(some, 0).valid == 0.0).expand_as(before))


def test_the_belief_is_carried_over_the_episodes_of_a_trial(run):
    policy = run.policy_for(run.tasks)
    noise = FreshNoise(len(run.tasks), 2, run.streams.collect)
    trials = run_trials(run.simulations(run.tasks), policy, episodes=4, noise=noise, generator=run.streams.collect)
    unrolled = run.agent.unroll(Rows(*(field.flatten(1, 2) for field in trials.rows)))
    horizon = run.family.horizon
    torch.testing.assert_close(trials.beliefs, unrolled[:, horizon::horizon], rtol=1e-4, atol=1e-5)


def test_what_was_done_can_be_told_from_the_noise_that_it_was_drawn_with(run):
    ppo = run.learner._ppo
    noise = FreshNoise(len(run.tasks), 2, run.streams.collect)
    trials = run_trials(
        run.simulations(run.tasks), run.policy_for(run.tasks), episodes=4, noise=noise, generator=run.streams.collect
    )
    flat = Rows(*(field.flatten(1, 2) for field in trials.rows))
    lesson = ppo.lesson(flat, noise.drawn())
    torch.testing.assert_close(run.agent.unscale_action(lesson.action), flat.action, rtol=1e-4, atol=1e-5)
    densities = torch.distributions.Normal(0.0, 1.0).log_prob(noise.drawn()).sum(-1) - run.agent.actor.log_std.sum()
    torch.testing.assert_close(densities, lesson.log_prob, rtol=1e-4, atol=1e-4)


def lesson_of(run):
    noise = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(2))
    return run.learner._ppo.lesson(rows(), noise)


def learned_by(run, learn):
    """Names of the parts of the agent that a step moved."""
    before = {name: value.detach().clone() for name, value in run.agent.named_parameters()}
    learn()
    after = dict(run.agent.named_parameters())
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


def test_rl2_learns_what_to_remember_from_its_reward_and_varibad_does_not():
    for method, parts in (("rl2", {"actor", "value", *MEMORY}), ("varibad", {"actor", "value"})):
        run = tiny_on_policy(method)
        assert parts == learned_by(run, lambda run=run: run.learner._ppo.update(lesson_of(run)))


def test_varibads_memory_learns_to_predict_rewards_and_the_policy_does_not_learn_of_it():
    run = tiny_on_policy("varibad")
    assert {*MEMORY, "decoder"} == learned_by(run, lambda: run.learner._teach_memory(run.streams.learn))


def test_the_first_step_of_a_trial_learns_from_the_reward_of_the_last():
    run = tiny_on_policy("rl2", on_policy={"memory": 8, "minibatches": 2, "trace": 1.0, "discount": 1.0})
    some = rows()._replace(valid=torch.ones(3, 7, 1))
    paid = some._replace(reward=some.reward.clone())
    paid.reward[0, 6] += 10.0
    advantages = [run.learner._ppo.lesson(each, torch.zeros(3, 7, 2)).advantage[0, 0] for each in (some, paid)]
    assert advantages[1] > advantages[0] + 0.1


def test_the_gradient_reaches_the_first_transition_through_the_whole_trial(run):
    some = rows()
    some.valid[:] = 1.0
    some.reward.requires_grad_()
    run.agent.readout(run.agent.unroll(some)[:, -1]).mean.sum().backward()
    assert (some.reward.grad[:, 0].abs() > 0.0).all()


def test_the_bound_is_what_a_hand_computes_where_every_belief_is_the_prior():
    run = tiny_on_policy("varibad", variational={"sampled": 100, "change_weight": 2.0})
    with torch.no_grad():
        for parameter in (*run.agent.readout.parameters(), *run.agent.decoder.parameters()):
            parameter.zero_()
    some = rows()
    loss, metrics = variational_loss(run.agent, some, run.config.variational, run.streams.learn)
    reward = (run.agent.reward_norm(some.reward).square() * some.valid).sum((1, 2)).mean() * 8
    change = run.agent.motion_norm(some.next_observation - some.observation)[..., :2].square().mean(-1, keepdim=True)
    change = (change * some.valid).sum((1, 2)).mean() * 8
    assert 0.0 == pytest.approx(metrics["memory/divergence"].item())
    assert (reward + 2.0 * change).item() == pytest.approx(loss.item(), rel=1e-5)


def test_the_decoders_are_not_told_the_reward_that_the_agent_sees():
    """The observation of after a step holds that step's reward: to predict it from there would teach nothing."""
    run = tiny_on_policy("varibad")
    some = rows()
    stream = torch.Generator().manual_seed(0)
    first, _ = variational_loss(run.agent, some, run.config.variational, stream.manual_seed(0))
    with torch.no_grad():  # the memory forgets what it sees: what the decoders are told remains
        run.agent.cell.weight_ih.zero_()
    blind, _ = variational_loss(run.agent, some, run.config.variational, stream.manual_seed(0))
    some.next_observation[..., 2] += 5.0
    some.observation[..., 2] -= 5.0
    still, _ = variational_loss(run.agent, some, run.config.variational, stream.manual_seed(0))
    assert first != blind
    assert blind == still


def test_scales_are_those_of_everything_that_was_seen():
    statistics, generator = RunningStatistics(2), torch.Generator().manual_seed(0)
    assert torch.equal(torch.ones(2), statistics.spread)  # nothing seen yet
    seen = [torch.randn(num, 2, generator=generator) * torch.tensor([2.0, 0.0]) + 1.0 for num in (4, 1, 9)]
    for rows_seen in seen:
        statistics.see(rows_seen)
    every = torch.cat(seen)
    torch.testing.assert_close(every.mean(0), statistics.mean.float())
    torch.testing.assert_close(torch.stack([every[:, 0].std(correction=0), torch.tensor(1.0)]), statistics.spread)


def test_the_policy_reads_beliefs_in_units_of_their_spread_where_they_are_posteriors(run):
    before = run.policy_for(run.tasks).read(run.agent.unroll(rows())[:, -1]).mean
    course.iterate(run, Stop())
    moved = bool((run.agent.latent_norm.scale != 1.0).all())
    assert moved == (run.config.method == "varibad")
    scaled = run.agent.policy_inputs(torch.zeros(3, 3), before)[:, 3:]
    expected = (before - run.agent.latent_norm.mean) / run.agent.latent_norm.scale
    torch.testing.assert_close(expected, scaled)


def test_some_trials_of_a_lesson_are_the_same_trials_in_every_field(run):
    lesson = lesson_of(run)
    some = pick(lesson, torch.tensor([2, 0]))
    assert torch.equal(lesson.rows.reward[[2, 0]], some.rows.reward)
    assert torch.equal(lesson.target[[2, 0]], some.target)


def test_an_iteration_counts_its_steps_and_its_updates(run):
    before = run.counters.env_steps
    course.iterate(run, Stop())
    num = min(run.config.collect.tasks, len(run.tasks))
    assert num * run.adaptation.episodes * run.family.horizon == run.counters.env_steps - before
    of_memory = run.config.variational.updates if run.config.method == "varibad" else 0
    assert 2 * 2 + of_memory == run.counters.updates == len(run.tally.series()["policy/loss"]) + of_memory
    assert all(math.isfinite(value) for value in run.tally.means().values())
