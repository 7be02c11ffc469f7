"""PPO's losses in numbers that can be computed by hand."""

import math

import pytest
import torch

from ccm_training.onpolicy import ppo

NAN = float("nan")


def row(*values):
    return torch.tensor([values])


def test_advantages_are_discounted_sums_of_what_was_not_expected():
    # No value: 1 + 0.5 * 0.8 * (2 + 0.4 * 4) = 2.44; 2 + 0.4 * 4 = 3.6; 4.
    found = ppo.trial_advantages(row(1.0, 2.0, 4.0), row(0.0, 0.0, 0.0), row(1.0, 1.0, 1.0), discount=0.5, trace=0.8)
    torch.testing.assert_close(row(2.44, 3.6, 4.0), found)
    # One step (trace 0): r + 0.5 V' - V, and nothing is expected after the trial.
    found = ppo.trial_advantages(row(1.0, 2.0, 4.0), row(3.0, 2.0, 6.0), row(1.0, 1.0, 1.0), discount=0.5, trace=0.0)
    torch.testing.assert_close(row(-1.0, 3.0, -2.0), found)


def test_advantages_are_returns_less_values_where_the_trace_does_not_fade():
    reward, value = row(1.0, 0.0, 2.0), row(0.3, -0.2, 0.5)
    found = ppo.trial_advantages(reward, value, torch.ones(1, 3), discount=0.9, trace=1.0)
    torch.testing.assert_close(row(1.0 + 0.81 * 2.0, 0.9 * 2.0, 2.0) - value, found)


def test_padding_between_two_episodes_is_stepped_over():
    """An episode that ended early leaves rows that nothing may enter, and the trial goes on behind them."""
    reward, value = row(1.0, 7.0, 7.0, 2.0), row(0.3, 9.0, -9.0, 0.5)
    valid = row(1.0, 0.0, 0.0, 1.0)
    found = ppo.trial_advantages(reward, value, valid, discount=0.9, trace=0.7)
    whole = ppo.trial_advantages(row(1.0, 2.0), row(0.3, 0.5), row(1.0, 1.0), discount=0.9, trace=0.7)
    torch.testing.assert_close(row(whole[0, 0].item(), 0.0, 0.0, whole[0, 1].item()), found)
    so_far = ppo.discounted_so_far(reward, valid, 0.9)
    torch.testing.assert_close(row(1.0, 2.9), so_far[:, [0, 3]])


def test_standardized_advantages_have_mean_zero_and_spread_one_over_valid_steps():
    found = ppo.standardized(torch.tensor([[1.0, 3.0], [5.0, 100.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    spread = math.sqrt(8.0 / 3.0)
    torch.testing.assert_close(torch.tensor([[-2.0 / spread, 0.0], [2.0 / spread, 0.0]]), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gained", "moves"),
    [
        (1.05, 2.0, 2.10, True),  # within the clip
        (1.50, 2.0, 2.20, False),  # more of what is good gains nothing beyond it
        (0.50, 2.0, 1.00, True),  # less of what is good is mended
        (0.50, -2.0, -1.80, False),  # less of what is bad gains nothing beyond it
        (1.50, -2.0, -3.00, True),  # more of what is bad is mended
    ],
)
def test_the_surrogate_stops_at_its_clip_where_that_would_gain(ratio, advantage, gained, moves):
    log_prob = row(math.log(ratio), NAN)[:, :1].requires_grad_()
    loss = ppo.surrogate_loss(log_prob, row(0.0), row(advantage), row(1.0), 0.1)
    assert -gained == pytest.approx(loss.item())
    loss.backward()
    assert (log_prob.grad.item() != 0.0) == moves


def test_padding_does_not_count_in_any_loss():
    valid = row(1.0, 0.0)
    assert -2.0 == pytest.approx(ppo.surrogate_loss(row(0.0, 1.0), row(0.0, 0.0), row(2.0, 50.0), valid, 0.1).item())
    assert 0.5 == pytest.approx(ppo.value_loss(row(1.0, 9.0), row(1.0, 0.0), row(2.0, -9.0), valid, 0.1).item())


@pytest.mark.parametrize(
    ("value", "old", "target", "expected"),
    [
        (1.0, 1.0, 1.5, 0.125),  # quadratic near
        (1.0, 1.0, 4.0, 2.5),  # linear far off
        (1.4, 1.0, 1.5, 0.08),  # nearer than the clip allows: that of 1.1
        (0.2, 1.0, 1.5, 0.8),  # farther off than the clip allows: its own
    ],
)
def test_the_values_loss_is_a_clipped_huber_loss(value, old, target, expected):
    assert expected == pytest.approx(ppo.value_loss(row(value), row(old), row(target), row(1.0), 0.1).item())
