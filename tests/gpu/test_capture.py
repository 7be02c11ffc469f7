"""Captured updates do what eager ones do, step for step, for one seed and for several. Needs CUDA: `pytest -m gpu`."""

import pytest
import torch
from tiny_run import tiny_config

from ccm_training import train as training
from ccm_training.capture import Step
from ccm_training.cohort import build_cohort
from ccm_training.collecting import Collector

pytestmark = pytest.mark.gpu
NUM_UPDATES = 30


def warmed_up(method, *seeds, **changes):
    collect = {"capacity": 4, "warmup_trials": 2, "iterations": 2, "tasks": 6}
    configs = [tiny_config(method, seed=seed, collect=collect, **changes) for seed in seeds or (0,)]
    cohort = build_cohort(configs, torch.device("cuda"))
    training.warm_up(cohort)
    return cohort


def update_of(cohort):
    return lambda: cohort.learner.update(*cohort.lesson())


def captured_update_of(cohort):
    return Step(update_of(cohort), streams=cohort.learning, device=cohort.first.device)


def losses(cohort, step):
    """Metrics of each update, `[updates, metrics, seeds]`; learning rates and the replay change on the way."""
    found = []
    for number in range(NUM_UPDATES):
        cohort.learner.anneal(number / NUM_UPDATES)
        if number % 10 == 5:
            Collector(cohort)()
        found.append(torch.stack([value.view(-1) for value in step().values()]))
    return torch.stack(found).cpu()


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2, 3, 4)], ids=["one seed", "five seeds"])
@pytest.mark.parametrize("method", ["ccm", "pearl", "oracle"])
def test_captured_updates_agree_with_eager_ones_step_for_step(method, seeds):
    eager, captured = warmed_up(method, *seeds), warmed_up(method, *seeds)
    expected, found = losses(eager, update_of(eager)), losses(captured, captured_update_of(captured))
    torch.testing.assert_close(expected, found, rtol=1e-3, atol=1e-3)
    for run, other in zip(eager.runs, captured.runs, strict=True):
        torch.testing.assert_close(run.agent.state_dict(), other.agent.state_dict(), rtol=1e-2, atol=1e-3)


def test_a_seed_in_a_captured_cohort_learns_what_it_learns_alone():
    seeds = (0, 1, 2, 3, 4)
    cohort = warmed_up("ccm", *seeds)
    together = losses(cohort, captured_update_of(cohort))
    for place, seed in enumerate(seeds):
        alone = warmed_up("ccm", seed)
        found = losses(alone, captured_update_of(alone))
        torch.testing.assert_close(found[..., 0], together[..., place], rtol=1e-2, atol=1e-2)


def test_five_seeds_cost_at_most_twice_as_much_as_one():
    wide = {"hidden": [300, 300, 300], "encoder_hidden": [400, 400, 400], "latent": 20}
    seconds = {}
    for seeds in ((0,), (0, 1, 2, 3, 4)):
        cohort = warmed_up("ccm", *seeds, networks=wide, meta_batch=6, policy={"rows": 256, "explorer_rows": 256})
        step = captured_update_of(cohort)
        for _ in range(10):
            step()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(200):
            step()
        end.record()
        torch.cuda.synchronize()
        seconds[len(seeds)] = begin.elapsed_time(end)
    assert 2.0 * seconds[1] >= seconds[5]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2, 3, 4)], ids=["one seed", "five seeds"])
def test_trials_that_are_captured_go_as_they_go_uncaptured(seeds, monkeypatch):
    captured, plain = warmed_up("ccm", *seeds), warmed_up("ccm", *seeds)
    collect = Collector(captured)
    with monkeypatch.context() as one_by_one:
        one_by_one.setattr(type(plain.first.family), "capturable", False)
        collect_plainly = Collector(plain)
    for _ in range(6):
        collect()
        collect_plainly()
        torch.testing.assert_close(captured.replay.rows, plain.replay.rows, rtol=1e-3, atol=1e-3)


def test_what_a_step_returned_is_not_overwritten_by_the_next():
    step = captured_update_of(warmed_up("ccm"))
    kept = [step() for _ in range(8)]
    before = [float(metrics["executor/critic_loss"]) for metrics in kept]
    step()
    assert before == [float(metrics["executor/critic_loss"]) for metrics in kept]
    assert len(set(before)) == len(before)
