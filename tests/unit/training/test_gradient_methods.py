"""The gradient-based methods in numbers that can be computed by hand: one parameter, a line of actions."""

import math

import pytest
import torch

from ccm_training.onpolicy import advantages as advantage
from ccm_training.onpolicy.gaussian import (
    Gaussian,
    GaussianPolicy,
    call,
    call_each,
    from_vector,
    parameters_of,
    to_vector,
)
from ccm_training.onpolicy.inner_step import Lesson, adapt, adapt_each, divergence, likelihood_loss, ratio, ratio_loss
from ccm_training.onpolicy.maml import maml_objective, maml_step
from ccm_training.onpolicy.promp import promp_loss
from ccm_training.onpolicy.trust_region import conjugate_gradient, trust_region_step

RATE = 0.1


def on_a_line(mean=0.0, log_std=0.0):
    """A policy that sees nothing: its mean is its bias."""
    policy = GaussianPolicy(1, 1, hidden=())
    return policy, {
        "mean.0.weight": torch.zeros(1, 1),
        "mean.0.bias": torch.tensor([mean]),
        "log_std": torch.tensor([log_std]),
    }


def lesson(actions, advantages, *, mean=0.0, tasks=True):
    """One episode of one task, acted by N(mean, 1)."""
    steps = len(actions)
    action = torch.tensor(actions)[None, :, None]
    one = Lesson(
        observation=torch.zeros(1, steps, 1),
        action=action,
        advantage=torch.tensor(advantages)[None],
        valid=torch.ones(1, steps),
        acted=Gaussian(torch.full_like(action, mean), torch.zeros_like(action)),
    )
    return of_many(one) if tasks else one


def of_many(*lessons):
    """Lessons with a leading dimension of tasks."""
    fields = zip(*((*one[:4], *one.acted) for one in lessons), strict=True)
    observation, action, advantages, valid, mean, log_std = (torch.stack(field) for field in fields)
    return Lesson(observation, action, advantages, valid, Gaussian(mean, log_std))


FIRST = lesson([1.0, -1.0], [3.0, 1.0])  # the step leads from 0 to 0 + 0.1 * (3 * 1 + 1 * -1) / 2
ADAPTED = 0.1
SECOND = lesson([1.0 + ADAPTED, -1.0 + ADAPTED], [1.0, -2.0], mean=ADAPTED)


def test_density_and_divergence_match_hand_computed_ones():
    standard = Gaussian(torch.zeros(2), torch.zeros(2))
    other = Gaussian(torch.tensor([1.0, 0.0]), torch.tensor([0.0, math.log(2.0)]))
    expected = -0.5 * (9.0 + 16.0) - math.log(2.0 * math.pi)
    assert expected == pytest.approx(standard.log_prob(torch.tensor([3.0, 4.0])).item())
    expected = 0.5 + (math.log(2.0) + 0.5 * (0.25 - 1.0))
    assert expected == pytest.approx(standard.divergence(other).item())
    assert standard.divergence(standard).item() == 0.0


def test_the_inner_step_follows_the_hand_computed_gradient():
    policy, parameters = on_a_line()
    for loss in (likelihood_loss, ratio_loss):
        adapted = adapt(loss, policy, parameters, lesson([1.0, -1.0], [3.0, 1.0], tasks=False), RATE)
        assert adapted["mean.0.bias"].item() == pytest.approx(ADAPTED)
        assert adapted["log_std"].item() == pytest.approx(0.0)  # actions at one standard deviation say nothing of it


def test_the_gradient_of_maml_goes_through_the_inner_step():
    policy, parameters = on_a_line()
    parameters["mean.0.bias"].requires_grad_()
    surrogate, moved = maml_objective(policy, parameters, FIRST, SECOND, RATE)
    assert -(1.0 - 2.0) / 2 == pytest.approx(surrogate.item())
    assert moved.item() == pytest.approx(0.0, abs=1e-6)
    (gradient,) = torch.autograd.grad(surrogate, parameters["mean.0.bias"])
    outer = -(1.0 * 1.0 + -2.0 * -1.0) / 2  # by the adapted mean
    inner = 1.0 - RATE * (3.0 + 1.0) / 2  # of the adapted mean by the first one; 1 to first order
    assert outer * inner == pytest.approx(gradient.item())


def test_the_gradient_of_promp_knows_that_other_parameters_sample_otherwise():
    policy, parameters = on_a_line()
    parameters["mean.0.bias"].requires_grad_()
    found = promp_loss(policy, parameters, FIRST, SECOND, rate=RATE, clip=0.3, weight=0.0)
    (gradient,) = torch.autograd.grad(found.loss, parameters["mean.0.bias"])
    inner = 1.0 + RATE * 0.0  # the mean of A ((a - mean)^2 - 1) is 0, where MAML's loss has the mean of -A
    assert -1.5 * inner == pytest.approx(gradient.item())


def test_promp_pays_for_moving_before_adaptation_and_gains_nothing_beyond_the_clip():
    policy, parameters = on_a_line(mean=0.5)
    unmoved = lesson([1.0, -1.0], [0.0, 0.0])
    found = promp_loss(policy, parameters, unmoved, lesson([2.0], [1.0]), rate=RATE, clip=0.3, weight=4.0)
    assert -(1.0 + 0.3) == pytest.approx(found.surrogate.item())  # the ratio is exp(2 * 0.5 - 0.125), well above
    assert 0.5 * 0.5**2 == pytest.approx(found.divergence.item())
    assert -1.3 + 4.0 * 0.125 == pytest.approx(found.loss.item())


def a_net(tasks=3):
    """A small net with lessons of several tasks, in double precision."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    policy = GaussianPolicy(2, 2, hidden=(4,)).double()
    parameters = parameters_of(policy)

    def lessons(acted_by):
        observation = torch.randn(tasks, 3, 4, 2, generator=generator, dtype=torch.float64)
        acted = call_each(policy, acted_by, observation)
        noise = torch.randn(acted.mean.shape, generator=generator, dtype=torch.float64)
        valid = (torch.rand(tasks, 3, 4, generator=generator) < 0.8).double()
        advantages = torch.randn(tasks, 3, 4, generator=generator, dtype=torch.float64)
        return Lesson(observation, acted.sample(noise), advantages, valid, acted)

    before = lessons({name: value.expand(tasks, *value.shape) for name, value in parameters.items()})
    after = lessons(adapt_each(likelihood_loss, policy, parameters, before, RATE))
    return policy, parameters, before, after


def _maml(policy, parameters, before, after):
    surrogate, moved = maml_objective(policy, parameters, before, after, RATE)
    return surrogate + moved


def _promp(policy, parameters, before, after):
    return promp_loss(policy, parameters, before, after, rate=RATE, clip=0.3, weight=0.5).loss


@pytest.mark.parametrize("loss", [_maml, _promp])
def test_meta_gradients_agree_with_finite_differences(loss):
    policy, parameters, before, after = a_net()
    away = to_vector(parameters) + 0.05  # ratios are not 1, divergences not 0
    here = away.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(policy, from_vector(here, parameters), before, after), here)
    small = 1e-6
    for index in range(len(away)):
        nudge = torch.zeros_like(away)
        nudge[index] = small
        up, down = (loss(policy, from_vector(away + sign * nudge, parameters), before, after) for sign in (1, -1))
        assert ((up - down) / (2 * small)).item() == pytest.approx(gradient[index].item(), rel=1e-5, abs=1e-8)


def test_every_task_adapts_as_if_it_were_alone():
    policy, parameters, before, _ = a_net()
    together = adapt_each(likelihood_loss, policy, parameters, before, RATE)
    for task in range(3):
        own = Lesson(*(field[task] for field in before[:4]), Gaussian(*(field[task] for field in before.acted)))
        alone = adapt(likelihood_loss, policy, parameters, own, RATE)
        for name, value in alone.items():
            assert torch.allclose(value, together[name][task])


def test_what_comes_after_the_end_of_an_episode_teaches_nothing():
    policy, parameters, before, _ = a_net()
    padding = before.valid == 0.0
    other = before._replace(
        action=torch.where(padding[..., None], 7.0, before.action),
        advantage=torch.where(padding, 9.0, before.advantage),
    )
    assert padding.any()
    for name, value in adapt_each(ratio_loss, policy, parameters, before, RATE).items():
        assert torch.equal(value, adapt_each(ratio_loss, policy, parameters, other, RATE)[name])


def test_a_policy_is_its_own_likeliest_nearest_one():
    policy, parameters, before, _ = a_net(tasks=1)
    own = Lesson(*(field[0] for field in before[:4]), Gaussian(*(field[0] for field in before.acted)))
    assert torch.allclose(torch.ones_like(own.valid), ratio(policy, parameters, own))
    assert divergence(policy, parameters, own).item() == 0.0


def test_parameters_in_a_row_are_the_same_parameters():
    _, parameters, *_ = a_net()
    there = from_vector(to_vector(parameters), parameters)
    assert parameters.keys() == there.keys()
    assert all(torch.equal(value, there[name]) for name, value in parameters.items())


def test_a_maml_step_makes_the_loss_smaller_within_the_trust_region():
    policy, parameters, before, after = a_net()
    stepped, how = maml_step(policy, parameters, before, after, rate=RATE, radius=0.01)
    loss, moved = maml_objective(policy, stepped, before, after, RATE)
    assert loss < how.loss
    assert (how.loss - how.improvement).item() == pytest.approx(loss.item())
    assert 0.003 < moved.item() <= 0.01


def test_conjugate_gradient_solves_a_hand_computed_system():
    matrix = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    solution = conjugate_gradient(lambda vector: matrix @ vector, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert solution.tolist() == pytest.approx([1.0 / 11.0, 7.0 / 11.0])


def test_a_trust_region_step_is_as_long_as_the_radius_allows():
    def objective(at):
        return 3.0 * at.sum(), 0.5 * 4.0 * at.square().sum()

    stepped = trust_region_step(objective, torch.zeros(1, dtype=torch.float64), radius=0.02)
    assert stepped.parameters.item() == pytest.approx(-math.sqrt(2.0 * 0.02 / 4.0), rel=1e-5)
    assert stepped.divergence.item() == pytest.approx(0.02, rel=1e-5)
    assert (stepped.share, stepped.improvement.item()) == (1.0, pytest.approx(0.3, rel=1e-5))


def test_a_step_is_shortened_until_the_loss_falls_and_not_taken_if_it_never_does():
    def objective(at):
        return (at + 7.0 * at.square()).sum(), 0.5 * 4.0 * at.square().sum()

    stepped = trust_region_step(objective, torch.zeros(1, dtype=torch.float64), radius=0.18)  # at most 0.3
    assert stepped.parameters.item() == pytest.approx(-0.3 * 0.8**4, rel=1e-4)  # 0.3 * 0.8^3 is 0.154, beyond 1/7

    def hopeless(at):
        return at.sum() if not at.any() else at.sum() * math.nan, at.square().sum()

    start = torch.zeros(1, dtype=torch.float64)
    assert trust_region_step(hopeless, start, radius=0.1).share == 0.0
    assert torch.equal(start, trust_region_step(hopeless, start, radius=0.1).parameters)


def test_discounted_sums_and_gae_match_hand_computed_ones():
    reward = torch.tensor([1.0, 2.0, 4.0])
    assert advantage.discounted_sums(reward, 0.5).tolist() == [3.0, 4.0, 4.0]
    value = torch.tensor([1.0, 3.0, 2.0])
    errors = [1.0 + 0.5 * 3.0 - 1.0, 2.0 + 0.5 * 2.0 - 3.0, 4.0 - 2.0]  # 1.5, 0, 2
    expected = [errors[0] + 0.25 * (errors[1] + 0.25 * errors[2]), errors[1] + 0.25 * errors[2], errors[2]]
    found = advantage.generalized_advantages(reward, value, discount=0.5, trace=0.5)
    assert found.tolist() == pytest.approx(expected)
    whole = advantage.generalized_advantages(reward, value, discount=0.5, trace=1.0)
    assert whole.tolist() == pytest.approx([3.0 - 1.0, 4.0 - 3.0, 4.0 - 2.0])  # returns less the baseline


def test_the_ridge_fit_matches_a_hand_computed_one_task_by_task():
    features = torch.tensor([[[1.0], [2.0], [9.0]], [[1.0], [1.0], [1.0]]])
    returns = torch.tensor([[3.0, 4.0, 9.0], [1.0, 2.0, 6.0]])
    valid = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    found = advantage.fit_baseline(features, returns, valid, ridge=0.5)
    assert found[:, 0].tolist() == pytest.approx([(3.0 + 8.0) / (5.0 + 0.5), 9.0 / (3.0 + 0.5)])


def test_baseline_features_are_the_published_ones():
    found = advantage.baseline_features(torch.tensor([[2.0], [-20.0]]))
    assert torch.allclose(torch.tensor([[2.0, 4.0, 0.0, 0.0, 0.0, 1.0], [-10.0, 100.0, 0.01, 1e-4, 1e-6, 1.0]]), found)


def test_advantages_are_normalized_over_the_valid_steps_of_each_task():
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(2, 5, 6, 3, generator=generator)
    reward = torch.randn(2, 5, 6, generator=generator) * torch.tensor([1.0, 50.0])[:, None, None]
    valid = torch.ones(2, 5, 6)
    valid[0, :, 4:] = 0.0
    found = advantage.advantages(observation, reward, valid, discount=0.9, trace=1.0)
    for task in range(2):
        taken = found[task][valid[task] > 0.0]
        assert taken.mean().item() == pytest.approx(0.0, abs=1e-6)
        assert taken.std(unbiased=False).item() == pytest.approx(1.0, rel=1e-4)
    assert not found[0, :, 4:].any()
    beyond = torch.where(valid > 0.0, reward, 1e3)
    assert torch.equal(found, advantage.advantages(observation, beyond, valid, discount=0.9, trace=1.0))


def test_where_nothing_is_paid_nothing_is_learned():
    nothing = torch.zeros(2, 3, 4)
    found = advantage.advantages(torch.randn(2, 3, 4, 2), nothing, nothing + 1.0, discount=0.9, trace=1.0)
    assert not found.any()
    policy, parameters = on_a_line()
    flat = lesson([1.0, 2.0], [0.0, 0.0])
    stepped, how = maml_step(policy, parameters, flat, flat, rate=RATE, radius=0.01)
    assert how.share == 0.0
    assert all(torch.equal(value, stepped[name]) for name, value in parameters.items())


def test_the_log_standard_deviation_is_bounded_below():
    policy, parameters = on_a_line(log_std=-50.0)
    assert math.log(1e-6) == pytest.approx(call(policy, parameters, torch.zeros(1)).log_std.item())
