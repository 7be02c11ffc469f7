"""A small run that was never trained, with networks and scales that are not trivial."""

import torch

from ccm_training.batch import Batch, Draws, draw, sample_batch
from ccm_training.cohort import build_cohort
from ccm_training.config import Config, parse_config
from ccm_training.envs.registry import get_family
from ccm_training.experiment import Experiment
from ccm_training.methods import METHODS
from ccm_training.onpolicy.registry import ON_POLICY
from ccm_training.onpolicy.seam import OnPolicyRun, build_on_policy
from ccm_training.replay import Rows


def tiny_config(method: str = "ccm", **changes) -> Config:
    """Return the settings of a run that fits a test."""
    tree = {
        "family": "hard-point-robot-aligned",
        "method": method,
        "meta_batch": 4,
        "tasks": {"num_train": 6, "num_test": 5},
        "networks": {"latent": 3, "hidden": [16, 16], "encoder_hidden": [16]},
        "trial": {"explore_episodes": 2, "execute_episodes": 2},
        "collect": {"capacity": 2},
    }
    tree |= changes
    if METHODS[method].gradient:
        tree["trial"] = {"while_executing": False, **tree["trial"]}
    return parse_config(tree, where="tiny")


def short_config(method: str = "ccm", collect: dict[str, int] | None = None, **changes) -> Config:
    """Return the settings of a run that is trained in a second: `tiny_config` with little of everything."""
    little = {
        "collect": {"capacity": 2, "warmup_trials": 1, "iterations": 2, "tasks": 3, **(collect or {})},
        "updates_per_iteration": 2,
        "encoder": {"pretrain_updates": 0},
        "evaluation": {"every": 0, "tasks": 2},
        "checkpoint_every": 1,
        "threads": 1,
    }
    return tiny_config(method, **(little | changes))


def tiny_experiment(method: str = "ccm", **changes) -> Experiment:
    """Return a run before its first step, its scales fitted to made-up transitions and its weights enlarged."""
    experiment = build_cohort([tiny_config(method, **changes)], torch.device("cpu")).first
    agent, generator = experiment.agent, torch.Generator().manual_seed(5)
    width = len(agent.observation_norm.mean)

    def rows(size):
        return torch.randn(64, size, generator=generator) * 0.7 + 0.2

    agent.fit_normalizers(Rows(rows(width), rows(2), rows(1), rows(width), rows(1), torch.ones(64, 1)))
    with torch.no_grad():
        for parameter in (*agent.encoder.parameters(), *agent.executor.actor.parameters()):
            parameter.mul_(1.5)
    experiment.counters.iteration = 3
    experiment.counters.updates = 3 * experiment.config.updates_per_iteration
    experiment.counters.env_steps = 1234
    return experiment


def experiment_with_trials(method="ccm", encoder=None, **changes):
    """Return a run whose replay holds made-up trials with rewards, endings and padding."""
    run = tiny_experiment(method, encoder=encoder or {}, **changes)
    tasks, generator = len(run.tasks), torch.Generator().manual_seed(3)
    shape = (tasks, run.adaptation.episodes, run.family.horizon)
    for _ in range(2):
        observation, action, reward, after = (torch.randn(*shape, size, generator=generator) for size in (3, 2, 1, 3))
        action = 0.1 * action.tanh()
        valid = (torch.rand(*shape, 1, generator=generator) < 0.9).float()
        ended = (torch.rand(*shape, 1, generator=generator) < 0.1).float()
        rows = Rows(observation, action, reward, after, ended, valid)
        run.replay.add(torch.arange(tasks), rows)
    return run


def tiny_on_policy(method: str, **changes) -> OnPolicyRun:
    """Return a run of a method with a memory before its first step, its scales and weights not trivial either."""
    config = tiny_config(method, **({"on_policy": {"memory": 8, "minibatches": 2}} | changes))
    run = build_on_policy(config, ON_POLICY[method], get_family(config.family), torch.device("cpu"))
    generator = torch.Generator().manual_seed(5)
    shape = (len(run.tasks), 2, run.adaptation.episodes, run.family.horizon)

    def rows(size):
        return torch.randn(*shape, size, generator=generator) * 0.7 + 0.2

    run.learner.warm_up(Rows(rows(3), rows(2), rows(1), rows(3), torch.zeros(*shape, 1), torch.ones(*shape, 1)))
    with torch.no_grad():
        for parameter in run.agent.parameters():
            parameter.mul_(1.5)
        run.agent.actor.mean[-1].weight.mul_(50.0)
    run.counters.warmup_trials = config.collect.warmup_trials
    return run


def lesson(run: Experiment, *, encoder_alone: bool = False) -> tuple[Batch, Draws]:
    """Draw what one update learns from, as `train()` does."""
    stream = run.streams.learn
    batch = sample_batch(run.replay, run.features, run.config, stream)
    return batch, draw(run.config, run.family.action.size, stream, encoder_alone=encoder_alone)
