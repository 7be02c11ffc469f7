"""What each method's encoder descends, by hand: every belief is the same, and nothing is predicted."""

import math

import pytest
import torch
from tiny_run import lesson, tiny_config

from ccm_training.cohort import build_cohort
from ccm_training.config import Config
from ccm_training.methods import ADAPTIVE, METHODS
from ccm_training.objective import Objective
from ccm_training.replay import Rows

OFF_POLICY = [method for method in ADAPTIVE if not METHODS[method].on_policy]
H, P = 0.25, 0.5  # precision-weighted mean and precision of every factor
MOTION, REWARD = 0.5, 2.0


def config_of(method, **encoder) -> Config:
    settings = METHODS[method].settings
    trial = {"explore_episodes": 2, "execute_episodes": 2} | dict(settings.get("trial", {}))
    return tiny_config(method, encoder=dict(settings.get("encoder", {})) | encoder, trial=trial)


def plain_run(method):
    """A run whose encoder says the same of every transition, whose models say 0, and whose scales are 1."""
    run = build_cohort([config_of(method)], torch.device("cpu")).first
    agent, latent = run.agent, run.agent.latent
    with torch.no_grad():
        last = agent.encoder.body[-1]
        last.weight.zero_()
        last.bias[:latent] = H
        last.bias[latent:] = math.log(math.expm1(P)) - math.log(math.expm1(agent.encoder.FIRST_PRECISION))
        agent.momentum_encoder.load_state_dict(agent.encoder.state_dict())
        for model in (agent.forward_model, agent.backward_model):
            model[-1].weight.zero_()
            model[-1].bias.zero_()
    shape = (len(run.tasks), run.adaptation.episodes, run.family.horizon)
    still, moved, action = torch.zeros(*shape, 3), torch.full((*shape, 3), MOTION), torch.zeros(*shape, 2)
    reward, none, valid = torch.full((*shape, 1), REWARD), torch.zeros(*shape, 1), torch.ones(*shape, 1)
    run.replay.add(torch.arange(len(run.tasks)), Rows(still, action, reward, moved, none, valid))
    return run


@pytest.mark.parametrize("method", OFF_POLICY)
def test_the_encoders_loss_is_what_a_hand_computes(method):
    run = plain_run(method)
    steps, taught = run.adaptation.episodes * run.family.horizon, run.config.encoder
    contrast = math.log(run.config.meta_batch)  # all keys are equal
    variance, mean = 1.0 / (1.0 + steps * P), steps * H / (1.0 + steps * P)
    divergence = 0.5 * run.agent.latent * (mean**2 + variance - math.log(variance) - 1.0)
    prediction = (3 * MOTION**2 + REWARD**2) / 4 + 0.5 * MOTION**2
    expected = (
        taught.contrastive_weight * contrast
        + taught.divergence_weight * divergence
        + taught.prediction_weight * prediction
    )
    found = Objective(run.config, run.adaptation.explore_episodes, run.agent, *lesson(run)).of_encoder()
    assert expected == pytest.approx(found.item(), rel=1e-5)


def encoder_gradient(method, **encoder):
    """What one update's losses ask of the encoder, at its first weights."""
    run = build_cohort([config_of(method, **encoder)], torch.device("cpu")).first
    generator = torch.Generator().manual_seed(1)
    shape = (len(run.tasks), run.adaptation.episodes, run.family.horizon)
    observation, action, reward, after = (torch.randn(*shape, size, generator=generator) for size in (3, 2, 1, 3))
    rows = Rows(observation, 0.1 * action.tanh(), reward, after, torch.zeros(*shape, 1), torch.ones(*shape, 1))
    run.replay.add(torch.arange(len(run.tasks)), rows)
    run.learner.update(*lesson(run))
    return torch.cat([parameter.grad.flatten() for parameter in run.agent.encoder.parameters()])


@pytest.mark.parametrize("method", OFF_POLICY)
def test_the_encoder_learns_from_its_methods_teachers_by_their_weights_and_from_nothing_else(method):
    names = ("contrastive_weight", "divergence_weight", "value_weight", "prediction_weight")
    taught = {name: getattr(config_of(method).encoder, name) for name in names}
    teachers = [name for name in names if taught[name] > 0.0]
    expected = 0.0
    for name in teachers:  # the others all but silenced: they draw random numbers too
        alone = encoder_gradient(method, **{other: 1.0 if other == name else 1e-9 for other in teachers})
        assert alone.abs().max() > 1e-4
        expected = expected + taught[name] * alone
    torch.testing.assert_close(expected, encoder_gradient(method), rtol=1e-3, atol=1e-5)
