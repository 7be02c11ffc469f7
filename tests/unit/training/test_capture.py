"""An update that a CUDA graph can capture, watched on a CPU; what breaks a capture is seen when it is planted."""

import pytest
import torch
from capture_watch import ForbiddenInCaptureError, watch
from tiny_run import lesson, tiny_config

from ccm_training import train as training
from ccm_training.capture import Step
from ccm_training.cohort import build_cohort

# Leaf operations of an update with its sampling, views among them: alarms, not goals.
MOST_OPERATIONS = {"ccm": 1000, "pearl": 650, "pearl-cl": 650, "pearl-dp": 650, "pearl-cl-dp": 650, "oracle": 390}


def warmed_up_cohort(*seeds, method="ccm", at_once=None, **changes):
    collect = {"capacity": 2, "warmup_trials": 1, "iterations": 2, "tasks": 6}
    configs = [tiny_config(method, seed=seed, collect=collect, **changes) for seed in seeds]
    cohort = build_cohort(configs, torch.device("cpu"), at_once=at_once)
    training.warm_up(cohort)
    return cohort


def warmed_up(method="ccm", **changes):
    return warmed_up_cohort(0, method=method, **changes).first


def _leaves(cohort):
    return list(cohort.learner.agents.agent.parameters())


def learning(run, name="update"):
    """Draw a batch and learn from it, as `train()` has it captured."""
    learn = getattr(run.learner, name)
    return lambda: learn(*lesson(run, encoder_alone=name == "pretrain"))


@pytest.mark.parametrize("method", MOST_OPERATIONS)
def test_an_update_with_its_sampling_never_waits_and_always_does_the_same(method):
    run = warmed_up(method)
    assert MOST_OPERATIONS[method] >= watch(learning(run), list(run.agent.parameters()))


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": {"prediction_weight": 1.0}},
        {"trial": {"explore_episodes": 2, "execute_episodes": 2, "latent": "sample"}},
        {"policy": {"exploration_reward": "paper", "reward_scale": 5.0}},
        {"policy": {"exploration_reward": "positive-only"}},
    ],
)
def test_no_setting_makes_an_update_wait(changes):
    run = warmed_up(**changes)
    watch(learning(run), list(run.agent.parameters()))


def test_pre_training_never_waits_and_always_does_the_same():
    run = warmed_up()
    watch(learning(run, "pretrain"), list(run.agent.parameters()))


@pytest.mark.parametrize("name", ["update", "pretrain"])
def test_an_update_of_several_seeds_at_once_never_waits_and_always_does_the_same(name):
    alone, together = (warmed_up_cohort(*seeds, at_once=True) for seeds in ((0,), (0, 1, 2)))
    once, of_all = (
        watch(lambda cohort=cohort: getattr(cohort.learner, name)(*cohort.lesson()), _leaves(cohort))
        for cohort in (alone, together)
    )
    assert 2.5 * once >= of_all  # it does not do as much for each


def test_a_fuller_replay_and_another_learning_rate_change_no_operation():
    run = warmed_up()
    update = learning(run)

    def update_of_a_run_that_goes_on():
        run.replay.written.add_(1)
        update()

    watch(update_of_a_run_that_goes_on, list(run.agent.parameters()))


def reads_a_number(run, batch):
    return float(batch.rows.reward.sum()) > 0.0


def branches_on_a_tensor(run, batch):
    return batch.rows.reward.sum() > 0.0 or None


def looks_for_rows(run, batch):
    return batch.rows.valid.nonzero()


def masks_rows(run, batch):
    return batch.rows.reward[batch.rows.valid > 0.5]


def grows(run, batch):
    run.counters.updates += 1
    return torch.zeros(run.counters.updates)


def moves_a_gradient(run, batch):
    parameter = run.agent.bilinear
    parameter.grad = None if parameter.grad is None else parameter.grad.clone()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (reads_a_number, "_local_scalar_dense waits"),
        (branches_on_a_tensor, "waits"),
        (looks_for_rows, "nonzero waits"),
        (masks_rows, "index with a boolean mask"),
        (grows, "operations or shapes differ"),
        (moves_a_gradient, "has moved in memory"),
    ],
)
def test_what_breaks_a_capture_is_seen_when_it_is_planted(monkeypatch, fault, said):
    run = warmed_up()
    drawn = lesson
    kept = []  # or a buffer that was given up might be handed out again

    def faulty(run, **options):
        batch, draws = drawn(run, **options)
        kept.append(run.agent.bilinear.grad)
        fault(run, batch)
        return batch, draws

    monkeypatch.setitem(globals(), "lesson", faulty)
    with pytest.raises(ForbiddenInCaptureError, match=said):
        watch(learning(run), list(run.agent.parameters()))


def test_a_step_on_a_cpu_is_a_plain_call():
    run = warmed_up()
    metrics = {"some/loss": torch.tensor(1.0)}
    assert metrics is Step(lambda: metrics, streams=[run.streams.learn], device=run.device)()


def test_learning_rates_that_are_tensors_are_written_in_place():
    learner = warmed_up().learner
    rates = [torch.tensor(float(group["lr"])) for group in learner.optimizer.param_groups]
    expected = [0.1 * float(rate) for rate in rates]
    for group, rate in zip(learner.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    learner.anneal(1.0)
    assert all(group["lr"] is rate for group, rate in zip(learner.optimizer.param_groups, rates, strict=True))
    assert pytest.approx(expected) == [float(rate) for rate in rates]
