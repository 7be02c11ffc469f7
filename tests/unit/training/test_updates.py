"""Each loss moves what it should and nothing else, and every parameter steps once an update."""

import numpy as np
import pytest
import torch
from tiny_run import experiment_with_trials as experiment
from tiny_run import lesson, tiny_config

from ccm_training import losses
from ccm_training.batch import sample_batch
from ccm_training.cohort import build_cohort
from ccm_training.methods import METHODS
from ccm_training.objective import Objective
from ccm_training.replay import Rows
from ccm_training.rewards import ExplorationReward

QUIET = {"contrastive_weight": 0.0, "divergence_weight": 0.0, "prediction_weight": 0.0, "value_weight": 0.0}


def learn(run, step="update"):
    """Take a step on a batch of its own."""
    return getattr(run.learner, step)(*lesson(run))


def weights(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def moved(before, module):
    """How many of the parameters have changed."""
    return sum(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


# -- what is not read


@pytest.mark.parametrize("method", ["pearl", "oracle"])
def test_what_a_method_does_not_read_changes_no_parameter(method):
    others = {"explorer_rows": 7, "exploration_reward": "paper"}
    unread = [name.split(".") for name in METHODS[method].unread if not name.endswith(".")]
    changed = {
        group: {name: others.get(name, 0.9) for its, name in unread if its == group} for group in ("policy", "encoder")
    }
    assert changed["policy"]

    def taught(**settings):
        run = experiment(method, **settings)
        learn(run)
        return weights(run.agent)

    torch.testing.assert_close(taught(**changed), taught(), rtol=0.0, atol=0.0)


# -- what moves the encoder


@pytest.mark.parametrize("step", ["pretrain", "update"])
def test_the_contrastive_loss_alone_moves_the_encoder_in_every_update(step):
    run = experiment(encoder=QUIET | {"contrastive_weight": 1.0})
    for _ in range(10):
        before, bilinear = weights(run.agent.encoder), run.agent.bilinear.detach().clone()
        learn(run, step)
        assert moved(before, run.agent.encoder) == len(before)
        assert not torch.equal(bilinear, run.agent.bilinear)


@pytest.mark.parametrize("step", ["pretrain", "update"])
def test_without_any_of_its_losses_the_encoder_stands_still(step):
    run = experiment(encoder=QUIET)
    before = weights(run.agent.encoder)
    for _ in range(3):
        learn(run, step)
    assert moved(before, run.agent.encoder) == 0


@pytest.mark.parametrize(
    "teacher", [{"value_weight": 1.0}, {"divergence_weight": 1.0}, {"prediction_weight": 1.0}], ids=str
)
@pytest.mark.parametrize("method", ["ccm", "pearl"])
def test_each_of_the_other_losses_moves_the_encoder_alone(method, teacher):
    run = experiment(method, encoder=QUIET | teacher)
    before = weights(run.agent.encoder)
    learn(run)
    assert moved(before, run.agent.encoder) == len(before)


@pytest.mark.parametrize("latent", ["mean", "sample"])
def test_the_critic_teaches_the_encoder_by_its_weight(latent):
    gradients = {}
    for weight in (0.0, 0.25, 1.0):
        run = experiment(encoder=QUIET | {"value_weight": weight}, trial={"execute_episodes": 2, "latent": latent})
        learn(run)
        gradients[weight] = torch.cat([parameter.grad.flatten() for parameter in run.agent.encoder.parameters()])
    assert gradients[1.0].abs().max() > 0.0
    assert not gradients[0.0].any()
    torch.testing.assert_close(gradients[0.25], 0.25 * gradients[1.0])


def test_prediction_moves_the_models_and_nothing_else_does():
    for weight, expected in ((0.0, 0), (1.0, 1)):
        run = experiment(encoder={"prediction_weight": weight})
        for model in (run.agent.forward_model, run.agent.backward_model):
            before = weights(model)
            learn(run)
            assert moved(before, model) == expected * len(before)


def test_the_contrastive_loss_falls_when_it_is_trained_alone():
    run = experiment(encoder=QUIET | {"contrastive_weight": 1.0, "learning_rate": 3e-3})
    same = lesson(run)
    found = [float(run.learner.pretrain(*same)["encoder/contrastive_loss"]) for _ in range(150)]
    assert np.mean(found[-10:]) < np.mean(found[:10]) - 0.1


def test_contrast_at_ignorance_is_log_m():
    run = experiment()
    with torch.no_grad():
        for parameter in run.agent.encoder.parameters():
            parameter.zero_()
    found = learn(run, "pretrain")
    assert float(found["encoder/contrastive_loss"]) == pytest.approx(np.log(run.config.meta_batch), rel=1e-5)


def test_an_oracle_trains_no_encoder():
    run = experiment("oracle")
    before = weights(run.agent.encoder)
    learn(run)
    assert moved(before, run.agent.encoder) == 0


# -- the momentum encoder


@pytest.mark.parametrize("step", ["pretrain", "update"])
def test_the_momentum_encoder_follows_as_a_moving_average_and_by_nothing_else(step):
    run = experiment(encoder={"momentum": 0.25})
    for _ in range(3):
        before = weights(run.agent.momentum_encoder)
        learn(run, step)
        online = weights(run.agent.encoder)
        expected = [0.75 * old + 0.25 * new for old, new in zip(before, online, strict=True)]
        torch.testing.assert_close(expected, weights(run.agent.momentum_encoder))


def test_the_momentum_encoder_begins_as_a_copy():
    agent = build_cohort([tiny_config()], torch.device("cpu")).first.agent
    torch.testing.assert_close(weights(agent.encoder), weights(agent.momentum_encoder), rtol=0.0, atol=0.0)


def test_no_gradient_reaches_the_momentum_encoder():
    run = experiment()
    learn(run, "pretrain")
    learn(run)
    stepped = {id(p) for group in run.learner.optimizer.param_groups for p in group["params"]}
    stepped |= {id(p) for group in run.learner.encoder_optimizer.param_groups for p in group["params"]}
    for parameter in run.agent.momentum_encoder.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
        assert parameter.grad_fn is None
        assert id(parameter) not in stepped


def test_keys_carry_no_gradient():
    run = experiment()
    context = Objective(run.config, 2, run.agent, *lesson(run)).encode()
    assert not context.keys.requires_grad
    assert context.prefixes.requires_grad


# -- what updates say


def padded(fields, axis):
    """As many rows again, which are padding and hold nonsense."""
    nonsense = Rows(*(torch.full_like(field, 7.0) for field in fields))._replace(valid=torch.zeros_like(fields.valid))
    return Rows(*(torch.cat(both, axis) for both in zip(fields, nonsense, strict=True)))


def twice(noise, tasks):
    """The noise of the executor's rows, and of as many again."""
    return torch.cat([noise.unflatten(1, (tasks, -1))] * 2, 2).flatten(1, 2)


def padded_lesson(batch, draws):
    """The same with as many rows again, which are padding."""
    return batch._replace(rows=padded(batch.rows, 1)), draws._replace(
        contexts=torch.cat([draws.contexts] * 2, 2),
        predicted=torch.cat([draws.predicted] * 2, 1),
        executor_noise=twice(draws.executor_noise, len(batch.features)),
    )


def test_padding_changes_no_gradient():
    run = experiment(encoder={"prediction_weight": 1.0, "value_weight": 1.0})

    def gradients(batch, draws):
        run.agent.zero_grad()
        sum(Objective(run.config, 2, run.agent, batch, draws).of_update()).backward()
        return {name: one.grad.clone() for name, one in run.agent.named_parameters() if one.grad is not None}

    whole = lesson(run)
    expected, found = gradients(*whole), gradients(*padded_lesson(*whole))
    parts = {name.split(".")[0] for name, gradient in expected.items() if gradient.abs().sum() > 0.0}
    assert {"encoder", "executor", "explorer"} <= parts
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("reward", ExplorationReward)
def test_padding_changes_nothing_that_an_update_says_of_its_rows(reward):
    run = experiment(encoder={"prediction_weight": 1.0}, policy={"exploration_reward": reward})
    batch, draws = lesson(run)

    def said(batch, draws):
        objective = Objective(run.config, 2, run.agent, batch, draws)
        objective.of_update()
        return objective.metrics

    expected, of_rows = said(batch, draws), said(*padded_lesson(batch, draws))
    assert {"encoder/prediction_loss", "executor/critic_loss", "executor/value", "executor/entropy"} <= set(expected)
    torch.testing.assert_close(of_rows, expected)
    of_trials = said(batch._replace(trials=padded(batch.trials, 2)), draws)
    for name in ("explorer/information_gain", "explorer/gain_of_a_trial"):
        torch.testing.assert_close(of_trials[name], expected[name])


# -- actors and critics


def actor_critics(run):
    return {"executor": run.agent.executor, "explorer": run.agent.explorer}.items()


def test_the_critic_loss_moves_critics_and_not_actors(monkeypatch):
    run = experiment()
    monkeypatch.setattr(losses, "actor_loss", lambda _, log_prob, __: 0.0 * log_prob.sum())
    before = {name: (weights(part.actor), weights(part.critics)) for name, part in actor_critics(run)}
    learn(run)
    for name, part in actor_critics(run):
        assert moved(before[name][0], part.actor) == 0
        assert moved(before[name][1], part.critics) == len(before[name][1])


def test_the_actor_loss_moves_actors_and_not_critics(monkeypatch):
    run = experiment()
    monkeypatch.setattr(losses, "critic_loss", lambda values, _: 0.0 * values.sum())
    before = {name: (weights(part.actor), weights(part.critics)) for name, part in actor_critics(run)}
    learn(run)
    for name, part in actor_critics(run):
        assert moved(before[name][0], part.actor) == len(before[name][0])
        assert moved(before[name][1], part.critics) == 0


def test_target_critics_follow_as_a_moving_average_and_by_nothing_else():
    run = experiment(policy={"target_rate": 0.25})
    for _ in range(2):
        before = {name: weights(part.target_critics) for name, part in actor_critics(run)}
        learn(run)
        for name, part in actor_critics(run):
            pairs = zip(before[name], weights(part.critics), strict=True)
            torch.testing.assert_close([0.75 * old + 0.25 * new for old, new in pairs], weights(part.target_critics))
            assert all(not p.requires_grad and p.grad is None for p in part.target_critics.parameters())


def test_a_temperature_rate_of_zero_keeps_the_temperature():
    for rate in (0.0, 1e-2):
        run = experiment(policy={"temperature_rate": rate})
        before = run.agent.executor.log_temperature.item()
        learn(run)
        assert (run.agent.executor.log_temperature.item() == before) == (rate == 0.0)


def test_a_reward_scale_that_is_set_multiplies_rewards():
    run, scaled = (experiment("oracle", policy={"reward_scale": scale}) for scale in (1.0, 4.0))
    batch, draws = lesson(run)
    fourfold = batch._replace(rows=batch.rows._replace(reward=4.0 * batch.rows.reward))
    plain, expected = (Objective(run.config, 0, run.agent, one, draws).of_update().critic for one in (batch, fourfold))
    found = Objective(scaled.config, 0, scaled.agent, batch, draws).of_update().critic
    torch.testing.assert_close(expected, found)
    assert found > 2.0 * plain


def test_pearl_leaves_the_explorer_alone():
    run = experiment("pearl")
    before = weights(run.agent.explorer)
    learn(run)
    assert moved(before, run.agent.explorer) == 0


def test_padding_changes_no_critic():
    critics = []
    for filler in (0.0, 7.0):
        run = experiment(policy={"exploration_reward": "telescoping", "information_weight": 0.0}, encoder=QUIET)
        drawn, draws = lesson(run)
        rows = drawn.rows._replace(
            reward=torch.where(drawn.rows.valid > 0.0, drawn.rows.reward, filler),
            next_observation=torch.where(drawn.rows.valid > 0.0, drawn.rows.next_observation, filler),
        )
        run.learner.update(drawn._replace(rows=rows), draws)
        critics.append(weights(run.agent.executor.critics))
    torch.testing.assert_close(*critics)


def test_every_variant_of_the_exploration_reward_is_the_same_without_its_weight():
    explorers = []
    for variant in ExplorationReward:
        run = experiment(policy={"exploration_reward": variant, "information_weight": 0.0})
        learn(run)
        explorers.append(weights(run.agent.explorer))
    torch.testing.assert_close(explorers[0], explorers[1])
    torch.testing.assert_close(explorers[0], explorers[2])


def test_the_exploration_reward_is_computed_with_todays_encoder():
    values = []
    for scale in (1.0, 3.0):
        run = experiment()
        drawn, draws = lesson(run)
        with torch.no_grad():
            run.agent.bilinear.mul_(scale)
        values.append(float(run.learner.update(drawn, draws)["explorer/gain_of_a_trial"]))
    assert values[0] != values[1]


# -- the step


@pytest.mark.parametrize("method", ["ccm", "pearl", "oracle"])
def test_every_parameter_steps_once_an_update(method):
    run = experiment(method)
    for _ in range(4):
        learn(run)
    assert {int(state["step"]) for state in run.learner.optimizer.state.values()} == {4}


@pytest.mark.parametrize("method", ["ccm", "pearl", "oracle"])
def test_every_metric_is_a_finite_scalar_without_gradient(method):
    run = experiment(method)
    found = learn(run)
    assert "executor/critic_loss" in found
    for value in found.values():
        assert value.shape == ()
        assert value.isfinite()
        assert not value.requires_grad


def test_updates_are_a_function_of_the_seed_and_touch_no_global_random_state():
    results = []
    for _ in range(2):
        run = experiment()
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (what is checked)
        for _ in range(2):
            learn(run, "pretrain")
            learn(run)
        assert torch.equal(before[0], torch.get_rng_state())
        assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
        results.append(weights(run.agent))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_a_meta_batch_holds_distinct_tasks_and_what_belongs_to_them():
    run = experiment()
    marks = torch.arange(len(run.tasks)).float().view(-1, 1, 1, 1, 1)
    run.replay.rows.reward[:] = marks
    features = marks.view(-1, 1).expand(-1, run.features.shape[1])
    for _ in range(20):
        drawn = sample_batch(run.replay, features, run.config, run.streams.learn)
        tasks = drawn.features[:, 0]
        assert len(tasks.unique()) == run.config.meta_batch
        for field in (drawn.trials.reward, drawn.keys.reward, drawn.rows.reward):
            assert (field.flatten(1) == tasks[:, None]).all()
