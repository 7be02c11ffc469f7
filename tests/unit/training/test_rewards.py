"""Every variant of the exploration reward by hand: finite for a certain task, and of its own trial alone."""

import math

import pytest
import torch

from ccm_training.rewards import PAPER_CLAMP, ExplorationReward, information_gain

LOG2, LOG4 = math.log(2.0), math.log(4.0)
OWN = torch.tensor([[[0]]])
# Scores of one trial's task against the others before, after one and after two transitions: the shares of the own task
# among e^0, e^0 and e^log2, e^0 and e^log4, e^log2 are 1/2, 2/3 and 2/3.
LOGITS = torch.tensor([[[0.0, 0.0], [LOG2, 0.0], [LOG4, LOG2]]])

GAINS = {
    ExplorationReward.TELESCOPING: [math.log(2 / 3) - math.log(1 / 2), 0.0],
    # Without the positive in L_upper's denominator: log(1 - p) of the share before is added.
    ExplorationReward.PAPER: [math.log(4 / 3) + math.log(1 / 2), math.log(1 / 3)],
    ExplorationReward.POSITIVE_ONLY: [LOG2, LOG2],
}


@pytest.mark.parametrize("variant", ExplorationReward)
def test_every_variant_matches_its_hand_computed_value(variant):
    expected = torch.tensor([GAINS[variant]])
    torch.testing.assert_close(expected, information_gain(LOGITS, OWN, variant), rtol=1e-5, atol=1e-6)


def test_the_paper_variant_is_the_difference_of_its_two_bounds():
    logits = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    own = torch.arange(3)[:, None, None]
    positive = torch.stack([logits[m, :, m] for m in range(3)])
    others = torch.stack([logits[m, :, [n for n in range(4) if n != m]] for m in range(3)])
    upper = -(positive - others.logsumexp(-1))  # L_upper of eq. 10: the positive is not among its negatives
    lower = -(positive - logits.logsumexp(-1))
    expected = upper[:, :-1] - lower[:, 1:]
    torch.testing.assert_close(expected, information_gain(logits, own, ExplorationReward.PAPER), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ExplorationReward)
def test_every_variant_is_finite_for_a_certain_task(variant):
    logits = torch.tensor([[[0.0, 0.0], [200.0, -200.0], [500.0, -500.0], [-500.0, 500.0]]])
    assert information_gain(logits, OWN, variant).isfinite().all()


def test_the_paper_variant_is_clamped_where_the_task_is_certain():
    logits = torch.tensor([[[100.0, 0.0], [100.0, 0.0]]])
    found = information_gain(logits, OWN, ExplorationReward.PAPER)
    assert found.item() == pytest.approx(PAPER_CLAMP)


@pytest.mark.parametrize("variant", ExplorationReward)
def test_no_variant_looks_at_another_trial(variant):
    logits = torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(1))
    own = torch.arange(4)[:, None, None]
    together = information_gain(logits, own, variant)
    for trial in range(4):
        alone = information_gain(logits[trial : trial + 1], own[trial : trial + 1], variant)
        torch.testing.assert_close(alone, together[trial : trial + 1])
