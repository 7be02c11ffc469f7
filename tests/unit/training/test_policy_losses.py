"""What explorer and executor learn from: whose belief, of which moment, and what they are paid."""

import pytest
import torch
from tiny_run import experiment_with_trials, lesson

from ccm_training import belief as beliefs
from ccm_training.objective import Objective
from ccm_training.replay import Rows
from ccm_training.rewards import ExplorationReward, information_gain

ALPHA = 2.0


class Calls(list):
    """What a module was given first, and what it answered, call by call."""

    def __init__(self, module):
        super().__init__()
        module.register_forward_hook(self._note)

    def _note(self, module, given, answered):
        self.append((given[0], answered))


def at(values, where):
    """Entries of `[M, length, ...]` at `[M, k]`, as rows `[M * k, ...]`."""
    return torch.cat([own[places] for own, places in zip(values, where, strict=True)])


class Told:
    """An objective with its trials step by step, `[M, steps, ...]`, and their beliefs, one more."""

    def __init__(self, run):
        batch, draws = lesson(run)
        self.objective = Objective(run.config, run.adaptation.explore_episodes, run.agent, batch, draws)
        self.steps = Rows(*(field.flatten(1, 2) for field in batch.trials))
        self.prefixes = self.objective.encode().prefixes
        self.where = draws.explorer_rows.mul(self.steps.reward.shape[1]).long()


@torch.no_grad()
def test_the_explorer_sees_the_belief_before_a_transition_and_its_target_the_one_after():
    run = experiment_with_trials()
    told, inputs_of = Told(run), run.agent.explorer_inputs
    critics, targets = Calls(run.agent.explorer.critics), Calls(run.agent.explorer.target_critics)
    told.objective.of_update()
    before, after = at(told.prefixes, told.where), at(told.prefixes, told.where + 1)
    assert not torch.equal(before, after)
    torch.testing.assert_close(inputs_of(at(told.steps.observation, told.where), before), critics[0][0])
    torch.testing.assert_close(inputs_of(at(told.steps.next_observation, told.where), after), targets[0][0])


@pytest.mark.parametrize("variant", ExplorationReward)
@torch.no_grad()
def test_the_explorer_is_paid_the_reward_and_the_gain_of_posterior_means_against_momentum_keys(variant):
    paid = {"exploration_reward": variant, "information_weight": ALPHA, "discount": 0.0, "reward_scale": 1.0}
    run = experiment_with_trials(policy=paid)
    for parameter in run.agent.momentum_encoder.parameters():
        parameter.mul_(0.5)  # so that its keys are none of the encoder's
    told, critics = Told(run), Calls(run.agent.explorer.critics)
    told.objective.of_update()
    keys = beliefs.read(run.agent.factors(told.objective.batch.keys, run.agent.momentum_encoder).sum(1)).mean
    scores = beliefs.read(told.prefixes).mean @ run.agent.bilinear @ keys.T
    gain = information_gain(scores, torch.arange(len(keys))[:, None, None], variant)
    paid, valid = at(told.steps.reward[..., 0] + ALPHA * gain, told.where), at(told.steps.valid[..., 0], told.where)
    expected = ((critics[0][1] - paid) * valid).square().mean(-1).sum() / valid.mean()
    torch.testing.assert_close(expected, told.objective.metrics["explorer/critic_loss"])


@torch.no_grad()
def test_the_executor_is_given_the_posterior_mean_of_a_prefix_of_a_trial_of_the_same_task():
    run = experiment_with_trials()
    told, critics = Told(run), Calls(run.agent.executor.critics)
    told.objective.of_update()
    length = told.prefixes.shape[1]
    explored = run.adaptation.explore_episodes * run.family.horizon
    anywhere, later, which = told.objective.draws.contexts
    where = torch.where(which < 0.5, anywhere * length, explored + later * (length - explored)).long()
    expected = beliefs.read(at(told.prefixes, where)).mean
    torch.testing.assert_close(expected, critics[0][0][:, -run.agent.latent :])


def test_what_the_explorer_is_paid_on_top_never_teaches_the_encoder():
    gradients = []
    for weight in (0.0, 100.0):
        run = experiment_with_trials(policy={"information_weight": weight})
        critic = Told(run).objective.of_update().critic
        gradients.append(torch.autograd.grad(critic, list(run.agent.encoder.parameters())))
    torch.testing.assert_close(*gradients)
