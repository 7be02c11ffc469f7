"""Losses in numbers that can be computed by hand, and what no gradient reaches."""

import math

import pytest
import torch
from torch.nn import functional

from ccm_training import losses
from ccm_training.belief import Latent


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_the_contrastive_loss_matches_a_hand_computed_one():
    queries = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # two tasks, one query each
    keys = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    bilinear = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # Scores are [1, 2] for both queries: the second task scores best for both.
    expected = (math.log(1.0 + math.e) + math.log(1.0 + 1.0 / math.e)) / 2
    found = losses.contrastive_loss(queries, keys, bilinear)
    assert expected == pytest.approx(found.loss.item(), rel=1e-6)
    assert found.accuracy.item() == 0.5


def test_similarity_is_bilinear_in_query_and_key():
    queries, keys = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 5.0], [0.0, 1.0]])
    bilinear = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])
    # q' W = [1 + 200, 10 + 2000]
    assert torch.equal(torch.tensor([[201 * 3 + 2010 * 5.0, 2010.0]]), losses.similarity(queries, keys, bilinear))


@pytest.mark.parametrize("num_tasks", [2, 5, 16])
def test_the_contrastive_loss_is_log_m_where_nothing_is_known(num_tasks):
    nothing = torch.zeros(num_tasks, 3, 4)
    known = torch.randn(num_tasks, 4, generator=torch.Generator().manual_seed(0))
    for queries, keys in ((nothing, known), (nothing + 1.0, torch.zeros(num_tasks, 4))):
        found = losses.contrastive_loss(queries, keys, torch.eye(4))
        assert math.log(num_tasks) == pytest.approx(found.loss.item(), rel=1e-6)


def test_the_contrastive_loss_vanishes_where_every_task_is_told_apart():
    latents = 20.0 * torch.eye(4)
    found = losses.contrastive_loss(latents[:, None], latents, torch.eye(4))
    assert found.loss.item() == pytest.approx(0.0, abs=1e-6)
    assert found.accuracy.item() == 1.0


def test_no_gradient_of_the_contrastive_loss_reaches_the_keys():
    queries, keys, bilinear = (torch.randn(size, requires_grad=True) for size in ((3, 2, 4), (3, 4), (4, 4)))
    losses.contrastive_loss(queries, keys, bilinear).loss.backward()
    assert keys.grad is None
    assert queries.grad.abs().min() > 0.0
    assert bilinear.grad.abs().sum() > 0.0


def test_the_divergence_matches_a_hand_computed_one_and_is_zero_at_the_prior():
    latent = Latent(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.5]]))
    expected = 0.5 * (1.0 + (0.25 - math.log(0.25) - 1.0))
    assert expected == pytest.approx(losses.prior_divergence(latent).item(), rel=1e-6)
    assert losses.prior_divergence(Latent(torch.zeros(3, 2), torch.ones(3, 2))).item() == 0.0


def test_the_divergence_is_that_of_torch():
    mean, std = torch.randn(7, 3), torch.rand(7, 3) + 0.1
    normal = torch.distributions.Normal
    expected = (
        torch.distributions.kl_divergence(normal(mean, std), normal(torch.zeros(3), torch.ones(3))).sum(-1).mean()
    )
    torch.testing.assert_close(expected, losses.prior_divergence(Latent(mean, std)))


def bellman(**changes):
    given = {
        "reward": torch.tensor([1.0, 2.0]),
        "terminated": torch.tensor([0.0, 1.0]),
        "next_values": torch.tensor([[10.0, 7.0], [8.0, 9.0]]),
        "next_log_prob": torch.tensor([-2.0, 3.0]),
        "temperature": torch.tensor(0.5),
        "discount": 0.9,
    }
    return losses.bellman_target(**(given | changes))


def test_the_bellman_target_takes_the_lower_twin_adds_entropy_and_ends_with_the_task():
    # 1 + 0.9 (min(10, 8) + 0.5 * 2), and 2 alone
    torch.testing.assert_close(torch.tensor([1.0 + 0.9 * 9.0, 2.0]), bellman())


def test_a_time_limit_bootstraps():
    torch.testing.assert_close(torch.tensor([9.1, 2.0 + 0.9 * (7.0 - 1.5)]), bellman(terminated=torch.zeros(2)))


def test_the_critic_loss_is_summed_over_twins_and_averaged_over_rows():
    values = torch.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    target = torch.tensor([1.0, 1.0], requires_grad=True)
    loss = losses.critic_loss(values, target)
    assert loss.item() == pytest.approx((0.0 + 1.0) / 2 + (4.0 + 16.0) / 2)
    loss.backward()
    assert target.grad is None


def test_the_actor_loss_weighs_entropy_against_the_lower_twin():
    values = torch.tensor([[1.0, 5.0], [2.0, 3.0]])
    log_prob = torch.tensor([-1.0, 2.0])
    loss = losses.actor_loss(values, log_prob, torch.tensor(0.5))
    assert loss.item() == pytest.approx(((-0.5 - 1.0) + (1.0 - 3.0)) / 2)


def test_the_temperature_rises_where_entropy_is_below_its_target_and_falls_above():
    for entropy, sign in ((-3.0, 1.0), (0.0, -1.0)):
        log_temperature = torch.tensor(0.1, requires_grad=True)
        log_prob = torch.full((4,), -entropy, requires_grad=True)
        loss = losses.temperature_loss(log_temperature, log_prob, -2.0)
        assert loss.item() == pytest.approx(-0.1 * (-entropy - 2.0), rel=1e-5)
        loss.backward()
        assert -log_temperature.grad.sign().item() == sign
        assert log_prob.grad is None


def test_the_contrastive_loss_is_the_cross_entropy_of_the_diagonal():
    queries, keys, bilinear = torch.randn(6, 4, 3), torch.randn(6, 3), torch.randn(3, 3)
    logits = torch.einsum("mqi,ij,nj->mqn", queries, bilinear, keys)
    expected = sum(functional.cross_entropy(logits[:, q], torch.arange(6)) for q in range(4)) / 4
    torch.testing.assert_close(expected, losses.contrastive_loss(queries, keys, bilinear).loss)
