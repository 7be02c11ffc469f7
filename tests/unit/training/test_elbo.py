"""VariBAD's bound in numbers that can be computed by hand."""

import math

import pytest
import torch

from ccm_training.onpolicy import elbo

LOG4 = math.log(4.0)


def test_the_divergence_of_gaussians_is_the_textbooks():
    # KL(N(1, 4) || N(0, 1)) = (1 + 4 - 1 - log 4) / 2, and back (1/4 + 1/4 - 1 + log 4) / 2.
    mean, other = torch.tensor([1.0]), torch.tensor([0.0])
    wide, narrow = torch.tensor([LOG4]), torch.tensor([0.0])
    assert (4.0 - LOG4) / 2 == pytest.approx(elbo.divergence(mean, wide, other, narrow).item())
    assert (LOG4 - 0.5) / 2 == pytest.approx(elbo.divergence(other, narrow, mean, wide).item())
    both = elbo.divergence(torch.tensor([1.0, 1.0]), torch.tensor([LOG4, 0.0]), torch.zeros(2), torch.zeros(2))
    assert (4.0 - LOG4) / 2 + 0.5 == pytest.approx(both.item())


def test_every_posterior_is_held_to_the_one_before_it_and_the_first_to_the_prior():
    mean = torch.tensor([[[1.0], [1.0], [3.0]]])
    log_variance = torch.tensor([[[0.0], [0.0], [LOG4]]])
    # (1)^2 / 2; nothing changed; ((3 - 1)^2 + 4 - 1 - log 4) / 2.
    expected = torch.tensor([[0.5, 0.0, (7.0 - LOG4) / 2]])
    torch.testing.assert_close(expected, elbo.successive_divergences(mean, log_variance))


def test_the_reconstruction_is_summed_over_posteriors_and_steps_and_averaged_over_trials():
    predicted = torch.tensor([[[[1.0], [5.0]], [[2.0], [5.0]]], [[[0.0], [0.0]], [[0.0], [0.0]]]])
    actual = torch.tensor([[[0.0], [0.0]], [[1.0], [2.0]]])
    valid = torch.tensor([[[1.0], [0.0]], [[1.0], [1.0]]])
    # First trial: 1 + 4, its second step is padding; second: 2 (1 + 4).
    assert (5.0 + 10.0) / 2 == elbo.reconstruction_loss(predicted, actual, valid, 1.0).item()
    assert (5.0 + 10.0) / 2 / 0.25 == elbo.reconstruction_loss(predicted, actual, valid, 0.25).item()
