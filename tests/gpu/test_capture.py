"""A captured update does what an eager one does, step for step. Needs CUDA: `pytest -m gpu`."""

import pytest
import torch
from tiny_run import lesson, tiny_config

from ccm_training import train as training
from ccm_training.capture import Step
from ccm_training.experiment import build

pytestmark = pytest.mark.gpu
NUM_UPDATES = 30


def warmed_up(method):
    collect = {"capacity": 4, "warmup_trials": 2, "iterations": 2, "tasks": 6}
    run = build(tiny_config(method, collect=collect), torch.device("cuda"))
    training.warm_up(run)
    return run


def losses(run, step):
    """Metrics of each update, `[updates, metrics]`; learning rates and the replay change on the way."""
    found = []
    for number in range(NUM_UPDATES):
        run.learner.anneal(number / NUM_UPDATES)
        if number % 10 == 5:
            training.collect(run)
        found.append(torch.stack(list(step().values())))
    return torch.stack(found).cpu()


@pytest.mark.parametrize("method", ["ccm", "pearl", "oracle"])
def test_captured_updates_agree_with_eager_ones_step_for_step(method):
    eager, captured = warmed_up(method), warmed_up(method)

    def update(run):
        return run.learner.update(*lesson(run))

    step = Step(lambda: update(captured), streams=[captured.streams.learn], device=captured.device)
    expected, found = losses(eager, lambda: update(eager)), losses(captured, step)
    torch.testing.assert_close(expected, found, rtol=1e-3, atol=1e-3)
    for one, other in zip(eager.agent.parameters(), captured.agent.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


def test_what_a_step_returned_is_not_overwritten_by_the_next():
    run = warmed_up("ccm")
    step = Step(
        lambda: run.learner.update(*lesson(run)),
        streams=[run.streams.learn],
        device=run.device,
    )
    kept = [step() for _ in range(8)]
    before = [float(metrics["executor/critic_loss"]) for metrics in kept]
    step()
    assert before == [float(metrics["executor/critic_loss"]) for metrics in kept]
    assert len(set(before)) == len(before)
