"""Seeds that train together are the runs that they would be alone, up to floating point."""

import pytest
import torch
from tiny_run import tiny_config

from ccm_training import cohort as cohorts
from ccm_training import train as training
from ccm_training.cohort import Kept, build_cohort
from ccm_training.collecting import Collector
from ccm_training.envs.joined import JoinedEnvs
from ccm_training.envs.registry import get_family

SEEDS = (0, 2, 5)
EXACT = {"rtol": 0.0, "atol": 0.0}
AT_FIRST = {"rtol": 1e-5, "atol": 1e-5}
LATER = {"rtol": 1e-2, "atol": 1e-3}


def settings(seed, method="ccm", **changes):
    few = {"capacity": 3, "warmup_trials": 2, "iterations": 2, "tasks": 4}
    return tiny_config(method, seed=seed, collect=few, updates_per_iteration=6, **changes)


def warmed_up(*seeds, method="ccm", at_once=None, **changes):
    configs = [settings(seed, method, **changes) for seed in seeds]
    cohort = build_cohort(configs, torch.device("cpu"), at_once=at_once)
    training.warm_up(cohort)
    return cohort


def learn(cohort, step="update"):
    """Take a step on a lesson of its own; every metric, `[seeds]`."""
    lesson = cohort.lesson(encoder_alone=step == "pretrain")
    return {name: value.view(-1) for name, value in getattr(cohort.learner, step)(*lesson).items()}


def same_agents(cohort, alone, **tolerance):
    for run, own in zip(cohort.runs, alone, strict=True):
        expected = own.first.agent.state_dict()
        torch.testing.assert_close(expected, dict(run.agent.state_dict()), **tolerance)


def same_metrics(found, expected, **tolerance):
    for place, own in enumerate(expected):
        torch.testing.assert_close(
            {k: v[0] for k, v in own.items()}, {k: v[place] for k, v in found.items()}, **tolerance
        )


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("method", ["ccm", "pearl", "oracle"])
def test_a_seed_in_a_cohort_learns_what_it_learns_alone(method, at_once):
    cohort = warmed_up(*SEEDS, method=method, at_once=at_once)
    alone = [warmed_up(seed, method=method) for seed in SEEDS]
    same_agents(cohort, alone, **EXACT)
    for run, own in zip(cohort.runs, alone, strict=True):
        torch.testing.assert_close(own.first.replay.rows, run.replay.rows, **EXACT)
    for number in range(8):
        tolerance = AT_FIRST if number == 0 else LATER
        same_metrics(learn(cohort), [learn(own) for own in alone], **tolerance)
        same_agents(cohort, alone, **tolerance)
        if number == 4:
            Collector(cohort)()
            for run, own in zip(cohort.runs, alone, strict=True):
                Collector(own)()
                assert torch.equal(own.first.streams.collect.get_state(), run.streams.collect.get_state())
                assert torch.equal(own.first.replay.written, run.replay.written)
                torch.testing.assert_close(own.first.replay.rows, run.replay.rows, **LATER)
    for run, own in zip(cohort.runs, alone, strict=True):
        assert own.first.counters == run.counters
        assert torch.equal(own.first.streams.learn.get_state(), run.streams.learn.get_state())


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("step", ["pretrain", "update"])
@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": {"prediction_weight": 1.0}},
        {"trial": {"explore_episodes": 2, "execute_episodes": 2, "latent": "sample"}},
    ],
    ids=["prediction", "samples"],
)
def test_so_it_does_with_every_loss(step, at_once, changes):
    cohort = warmed_up(*SEEDS, at_once=at_once, **changes)
    alone = [warmed_up(seed, **changes) for seed in SEEDS]
    same_metrics(learn(cohort, step), [learn(own, step) for own in alone], **AT_FIRST)
    same_agents(cohort, alone, **AT_FIRST)


def test_a_run_that_waits_for_the_others_is_put_back_to_where_it_was():
    cohort = warmed_up(*SEEDS)
    waiting, learning = cohort.runs[0], cohort.runs[1]
    before = {name: value.clone() for name, value in waiting.agent.state_dict().items()}
    stream, other = waiting.streams.learn.get_state(), learning.agent.bilinear.detach().clone()
    kept = Kept(waiting)
    learn(cohort, "pretrain")
    assert not torch.equal(before["bilinear"], waiting.agent.bilinear)
    kept.put_back()
    torch.testing.assert_close(before, dict(waiting.agent.state_dict()), **EXACT)
    assert torch.equal(stream, waiting.streams.learn.get_state())
    assert not torch.equal(other, learning.agent.bilinear)


def test_no_gradient_goes_from_one_seed_to_another():
    cohort = warmed_up(*SEEDS)
    with torch.no_grad():
        for parameter in cohort.runs[1].agent.parameters():
            parameter.fill_(float("nan"))
    learn(cohort)
    for run, expected in zip(cohort.runs, (True, False, True), strict=True):
        finite = [bool(parameter.isfinite().all()) for parameter in run.agent.parameters()]
        assert expected == all(finite)


@pytest.mark.parametrize("family", ["hard-point-robot", "cheetah-sparse", "drifts:Drifts"])
def test_simulations_of_all_seeds_are_those_of_each_alone(family):
    if family == "cheetah-sparse":
        pytest.importorskip("mujoco")
    cohort = build_cohort([tiny_config(family=family, seed=seed) for seed in SEEDS], torch.device("cpu"))
    tasks = [run.tasks[place : place + 2] for place, run in enumerate(cohort.runs)]
    at_once = cohort.simulations(tasks)
    alone = [run.family.make(own, run.env_seed) for run, own in zip(cohort.runs, tasks, strict=True)]
    for env in (at_once, JoinedEnvs(alone)):
        assert env.num_envs == 6
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        torch.testing.assert_close(torch.cat([env.reset() for env in alone]), at_once.reset(), **EXACT)
        for _ in range(3):
            action = torch.rand(6, cohort.first.family.action.size, generator=generator)
            expected = [env.step(part) for env, part in zip(alone, action.chunk(3), strict=True)]
            for field, found in zip(zip(*expected, strict=True), at_once.step(action), strict=True):
                torch.testing.assert_close(torch.cat(field), found, **EXACT)


class Plain:
    """A family that promises no more than it has to: it takes one number as its seed."""

    takes_seeds = False

    def __init__(self, family):
        self._family = family

    def __getattr__(self, name):
        return getattr(self._family, name)


def test_a_family_that_takes_one_seed_stands_side_by_side(monkeypatch):
    monkeypatch.setattr(cohorts, "get_family", lambda name: Plain(get_family(name)))
    cohort = warmed_up(*SEEDS)
    monkeypatch.undo()
    assert isinstance(cohort.simulations([run.tasks for run in cohort.runs]), JoinedEnvs)
    for run, expected in zip(cohort.runs, warmed_up(*SEEDS).runs, strict=True):
        torch.testing.assert_close(expected.replay.rows, run.replay.rows, **EXACT)


def test_simulations_side_by_side_go_to_other_tasks_as_one_does():
    family = get_family("hard-point-robot")
    tasks, others = (torch.from_numpy(family.sample_tasks(split, 6, 0)) for split in ("train", "test"))
    side_by_side = JoinedEnvs([family.make(part) for part in tasks.chunk(3)])
    side_by_side.retask(others)
    fresh = family.make(others)
    generator = torch.Generator().manual_seed(0)
    for env in (side_by_side, fresh):
        env.reset()
    for _ in range(8):
        action = 0.2 * torch.rand(6, 2, generator=generator) - 0.1
        for field, found in zip(fresh.step(action), side_by_side.step(action), strict=True):
            torch.testing.assert_close(field, found, **EXACT)
