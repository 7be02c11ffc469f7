"""Actions stay within bounds, densities are those of what was drawn, and scales survive what does not vary."""

import pytest
import torch
from torch import distributions

from ccm_training.nets import LOG_STD_RANGE, Actor, Critics, Encoder, Normalizer
from ccm_training.replay import Rows
from ccm_training.scales import ScaledTransitions


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_the_log_probability_is_that_of_the_squashed_gaussian():
    actor = Actor(3, 2, (16,))
    inputs, noise = torch.randn(50, 3), torch.randn(50, 2)
    with torch.no_grad():
        found = actor(inputs, noise)
        mean, raw = actor.body(inputs).chunk(2, -1)
        low, high = LOG_STD_RANGE
        std = (low + 0.5 * (high - low) * (raw.tanh() + 1.0)).exp()
        squashed = distributions.TransformedDistribution(
            distributions.Normal(mean, std), distributions.TanhTransform(cache_size=1)
        )
        before = mean + std * noise
        expected = distributions.Normal(mean, std).log_prob(before) - (1.0 - before.tanh().square()).log()
        inside = before.abs().amax(-1) < 3.0  # beyond, the reference itself loses its digits
        torch.testing.assert_close(expected.sum(-1)[inside], found.log_prob[inside], rtol=1e-3, atol=1e-3)
        sample = squashed.log_prob(found.action[inside]).sum(-1)
        torch.testing.assert_close(sample, found.log_prob[inside], rtol=1e-2, atol=1e-2)


def test_actions_stay_within_bounds_and_log_probabilities_finite_under_extreme_noise():
    actor = Actor(3, 2, (16,))
    with torch.no_grad():
        found = actor(1e3 * torch.randn(20, 3), 1e3 * torch.randn(20, 2))
    assert found.action.abs().max() <= 1.0
    assert found.log_prob.isfinite().all()


def test_twins_in_one_batch_are_the_twins_alone():
    critics = Critics(3, 2, (16, 16))
    inputs, action = torch.randn(10, 3), torch.randn(10, 2)
    with torch.no_grad():
        together = critics(inputs, action)
        for member in range(2):
            value = torch.cat([inputs, action], -1)
            for layer, norm in zip(critics.layers[:-1], critics.norms, strict=True):
                value = norm(value @ layer.weight[member] + layer.bias[member]).relu()
            last = critics.layers[-1]
            torch.testing.assert_close((value @ last.weight[member] + last.bias[member])[:, 0], together[member])
    assert not torch.allclose(*together)


def test_a_factor_has_a_positive_precision_that_begins_vague():
    factor = Encoder(2, 2, 4, (16,))(torch.randn(100, 7))
    precision = factor[:, 4:]
    assert (precision > 0.0).all()
    assert precision.mean() < 0.2


def test_a_normalizer_gives_zero_mean_and_unit_spread_and_survives_a_constant():
    rows = torch.cat([3.0 + 5.0 * torch.randn(500, 1), torch.full((500, 1), 7.0)], -1)
    normalizer = Normalizer(2)
    normalizer.fit(rows)
    scaled = normalizer(rows)
    torch.testing.assert_close(torch.zeros(2), scaled.mean(0), atol=1e-4, rtol=0.0)
    assert scaled[:, 0].std().item() == 1.0 or abs(scaled[:, 0].std().item() - 1.0) < 1e-5
    assert scaled.isfinite().all()


def test_what_did_not_vary_before_is_not_blown_up_when_it_does():
    normalizer = Normalizer(3)
    normalizer.fit(torch.tensor([[0.0, 1234.567, 1e-4]]).repeat(1001, 1))
    assert [1.0, 1.0, 1.0] == normalizer.scale.tolist()
    assert 0.9 == pytest.approx(normalizer(torch.tensor([0.9, 1234.567, 1e-4]))[0].item())
    normalizer.fit(torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 1e-4]]))  # what varied little is scaled by 1000 at most
    assert pytest.approx([0.5**0.5, 2.0**0.5, 1e-3]) == normalizer.scale.tolist()


@pytest.mark.parametrize(
    ("rewards", "scale"),
    [
        ([-1.0] * 1001, 1.0),  # a step costs, and nobody reached the goal
        ([0.0] * 1001, 1.0),  # nobody met the reward
        ([0.1] * 1001, 1.0),
        ([0.0] * 1000 + [1e-4], 1e-2),
        ([-3.0, 3.0], 18.0**0.5),
    ],
)
def test_rewards_are_scaled_by_their_spread_and_left_alone_where_they_did_not_vary(rewards, scale):
    scales, nothing = ScaledTransitions(1, -torch.ones(1), torch.ones(1)), torch.zeros(len(rewards), 1)
    scales.fit_normalizers(Rows(nothing, nothing, torch.tensor(rewards)[:, None], nothing, nothing, nothing + 1.0))
    assert scale == pytest.approx(scales.reward_norm.scale.item())
    assert 0.0 == scales.reward_norm.mean.item()
