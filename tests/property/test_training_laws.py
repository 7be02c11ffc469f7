"""Folding, padding, contrast and the exploration reward keep their laws for any numbers."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import tiny_experiment

from ccm_training import belief as beliefs
from ccm_training.losses import contrastive_loss
from ccm_training.replay import Rows
from ccm_training.rewards import PAPER_CLAMP, ExplorationReward, information_gain

RUN = tiny_experiment()
seeds = st.integers(0, 2**31 - 1)


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def rows(seed, num):
    observation, action, reward, after = draw(seed, (1, num, 3), (1, num, 2), (1, num, 1), (1, num, 3))
    return Rows(observation, action, reward, after, torch.zeros(1, num, 1), torch.ones(1, num, 1))


@torch.no_grad()
def fold(belief, part):
    """The training side's fold of a chunk: one forward pass and a sum."""
    return beliefs.prefixes(RUN.agent.factors(part), belief)[:, -1]


@given(seeds, st.integers(1, 24), st.data())
def test_folding_in_any_order_and_chunking_gives_one_belief(seed, num, data):
    given_rows = rows(seed, num)
    at_once = fold(RUN.policy.initial_belief(1), given_rows)
    order = data.draw(st.permutations(range(num)))
    cuts = sorted(data.draw(st.lists(st.integers(0, num), max_size=4)))
    belief = RUN.policy.initial_belief(1)
    for begin, end in zip([0, *cuts], [*cuts, num], strict=True):
        if begin < end:
            belief = fold(belief, Rows(*(field[:, order[begin:end]] for field in given_rows)))
    torch.testing.assert_close(at_once, belief, rtol=1e-4, atol=1e-5)


@given(seeds, st.integers(0, 12), st.integers(0, 6))
def test_padding_anywhere_changes_no_belief(seed, num, padded):
    given_rows = rows(seed, num + padded)
    valid = torch.ones(1, num + padded, 1)
    hidden = torch.randperm(num + padded, generator=torch.Generator().manual_seed(seed))[:padded]
    valid[:, hidden] = 0.0
    kept = [step for step in range(num + padded) if step not in hidden.tolist()]
    with_padding = fold(RUN.policy.initial_belief(1), given_rows._replace(valid=valid))
    without = fold(RUN.policy.initial_belief(1), Rows(*(field[:, kept] for field in given_rows)))
    torch.testing.assert_close(without, with_padding, rtol=1e-4, atol=1e-5)


@given(seeds, st.permutations(range(6)))
def test_contrast_is_invariant_under_a_permutation_of_tasks(seed, order):
    queries, keys, bilinear = draw(seed, (6, 3, 4), (6, 4), (4, 4))
    plain, permuted = contrastive_loss(queries, keys, bilinear), contrastive_loss(queries[order], keys[order], bilinear)
    torch.testing.assert_close(plain.loss, permuted.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(plain.accuracy, permuted.accuracy)


@given(seeds, st.integers(2, 12))
def test_contrast_is_log_m_at_ignorance_whatever_the_keys(seed, num_tasks):
    keys, bilinear = draw(seed, (num_tasks, 4), (4, 4))
    found = contrastive_loss(torch.zeros(num_tasks, 2, 4), keys, bilinear)
    assert np.isclose(np.log(num_tasks), found.loss.item(), rtol=1e-5)


@given(seeds, st.integers(1, 15), st.integers(2, 8), st.floats(0.1, 30.0))
def test_the_telescoping_reward_sums_to_first_minus_last(seed, steps, num_tasks, sharpness):
    [logits] = draw(seed, (num_tasks, steps + 1, num_tasks))
    logits, own = sharpness * logits, torch.arange(num_tasks)[:, None, None]
    shares = logits.log_softmax(-1).gather(-1, own.expand(-1, steps + 1, 1))[..., 0]
    total = information_gain(logits, own, ExplorationReward.TELESCOPING).sum(-1)
    torch.testing.assert_close(shares[:, -1] - shares[:, 0], total, rtol=1e-4, atol=1e-3)


@given(seeds, st.integers(1, 15), st.integers(2, 8), st.floats(0.1, 100.0))
def test_the_paper_reward_is_the_telescoping_one_and_a_clamped_log_of_what_was_uncertain(
    seed, steps, num_tasks, sharpness
):
    [logits] = draw(seed, (num_tasks, steps + 1, num_tasks))
    logits, own = sharpness * logits, torch.arange(num_tasks)[:, None, None]
    share = logits.double().softmax(-1).gather(-1, own.expand(-1, steps + 1, 1))[..., :-1, 0]
    paper = information_gain(logits, own, ExplorationReward.PAPER)
    added = (paper - information_gain(logits, own, ExplorationReward.TELESCOPING)).double()
    assert paper.isfinite().all()
    torch.testing.assert_close((1.0 - share).log().clamp(min=PAPER_CLAMP), added, rtol=1e-3, atol=1e-3)


@given(st.integers(1, 10))
def test_a_task_that_is_known_from_the_start_gives_no_reward_but_the_papers_clamp(steps):
    logits = torch.tensor([80.0, 0.0, 0.0]).expand(1, steps + 1, 3)
    own = torch.zeros(1, 1, 1, dtype=torch.long)
    for variant in ExplorationReward:
        expected = PAPER_CLAMP if variant is ExplorationReward.PAPER else 0.0
        found = information_gain(logits, own, variant)
        torch.testing.assert_close(torch.full((1, steps), expected), found)
