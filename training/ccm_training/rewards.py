"""The exploration reward: what the newest transition told about the task (eqs. 8, 10, 12-14)."""

from enum import StrEnum

import torch
from torch import Tensor


class ExplorationReward(StrEnum):
    """Variants of r_aux = L_upper(c(1:i-1)) - L_lower(c(1:i)).

    Attributes:
        PAPER: The positive is left out of L_upper's denominator (eq. 10). It diverges as the task becomes certain,
            so that log(1 - p) of the positive's share p is clamped at `PAPER_CLAMP`.
        TELESCOPING: Plain InfoNCE in both terms, as the released code runs.
        POSITIVE_ONLY: The positive score's gain alone, without the regularizer (the ablation of Fig. 5).
    """

    PAPER = "paper"
    TELESCOPING = "telescoping"
    POSITIVE_ONLY = "positive-only"


PAPER_CLAMP = -3.0


def information_gain(logits: Tensor, own_task: Tensor, variant: ExplorationReward) -> Tensor:
    """r_aux of every transition of a trial.

    Args:
        logits: Scores of the belief before and after each transition against every task's key,
            `[..., t + 1, tasks]`.
        own_task: Index of the trial's own task, broadcastable to `[..., 1, 1]`.
        variant: Which form.

    Returns:
        `[..., t]`.
    """
    index = own_task.expand(*logits.shape[:-1], 1)
    positive = logits.gather(-1, index)[..., 0]
    if variant is ExplorationReward.POSITIVE_ONLY:
        return positive[..., 1:] - positive[..., :-1]
    log_share = positive - logits.logsumexp(-1)
    gain = log_share[..., 1:] - log_share[..., :-1]
    if variant is ExplorationReward.TELESCOPING:
        return gain
    # L_upper without the positive = L_lower + log(1 - p), because the denominator loses p's share.
    others = torch.log1p(-log_share[..., :-1].exp().clamp(max=1.0 - 1e-7))
    return gain + others.clamp(min=PAPER_CLAMP)
