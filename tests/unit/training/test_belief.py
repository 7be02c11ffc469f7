"""A belief is the product of its transitions' Gaussians and the prior, for a batch and for every prefix."""

import torch
from tiny_run import tiny_experiment

from ccm_training import belief as beliefs
from ccm_training.replay import Rows


def random_rows(*shape: int, seed: int = 0) -> Rows:
    """Transitions of the tiny run's sizes, about a quarter of them padding."""
    generator = torch.Generator().manual_seed(seed)
    normal = [torch.randn(*shape, size, generator=generator) for size in (3, 2, 1, 3)]
    ended = torch.zeros(*shape, 1)
    valid = (torch.rand(*shape, 1, generator=generator) < 0.75).float()
    return Rows(*normal, ended, valid)


def test_prefixes_are_the_beliefs_of_folding_one_by_one():
    run = tiny_experiment()
    rows = random_rows(4, 7)
    with torch.no_grad():
        found = beliefs.prefixes(run.agent.factors(rows), run.policy.initial_belief(4))
        belief = run.policy.initial_belief(4)
        one_by_one = [belief]
        for step in range(7):
            belief = run.policy.fold(belief, Rows(*(field[:, step] for field in rows)))
            one_by_one.append(belief)
    torch.testing.assert_close(torch.stack(one_by_one, 1), found)


def test_a_belief_reads_as_the_product_of_its_gaussians_and_the_prior():
    precision, mean = torch.tensor([[2.0, 0.5]]), torch.tensor([[3.0, -1.0]])
    found = beliefs.read(torch.cat([precision * mean, precision], -1))
    torch.testing.assert_close(torch.tensor([[2.0 * 3.0 / 3.0, -0.5 / 1.5]]), found.mean)
    torch.testing.assert_close(torch.tensor([[1.0 / 3.0, 1.0 / 1.5]]).sqrt(), found.std)


def test_no_transition_is_the_prior():
    found = beliefs.read(torch.zeros(2, 8))
    assert torch.equal(torch.zeros(2, 4), found.mean)
    assert torch.equal(torch.ones(2, 4), found.std)


def test_every_transition_makes_the_belief_more_certain():
    run = tiny_experiment()
    rows = random_rows(5, 20)._replace(valid=torch.ones(5, 20, 1))
    with torch.no_grad():
        std = beliefs.read(beliefs.prefixes(run.agent.factors(rows), run.policy.initial_belief(5))).std
    assert (std[:, 1:] < std[:, :-1]).all()


def test_padding_teaches_nothing():
    run = tiny_experiment()
    rows = random_rows(3)._replace(valid=torch.zeros(3, 1))
    with torch.no_grad():
        assert torch.equal(torch.zeros(3, 6), run.agent.factors(rows))


def test_features_are_the_mean_and_the_log_precision():
    belief = torch.tensor([[3.0, 2.0]])
    torch.testing.assert_close(torch.tensor([[1.0, 1.0986123]]), beliefs.features(belief))
