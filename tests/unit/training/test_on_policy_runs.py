"""A run of a method that learns on-policy is stopped, resumed and refused as any other."""

import json
import signal
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from tiny_run import short_config

from ccm_runtime.errors import ConfigError, DivergenceError, RunError
from ccm_training import milestones
from ccm_training.checkpoint import load_agent, parameter_hash
from ccm_training.evaluation import evaluate_path, trials_for_report
from ccm_training.onpolicy import course, recurrent_ppo
from ccm_training.onpolicy.varibad import VariBadLearner
from ccm_training.replay import Replay
from ccm_training.train import train, train_seeds

ITERATIONS = 3
SMALL = {
    "on_policy": {"memory": 6, "minibatches": 2},
    "variational": {"trials": 2, "updates": 3},
    "encoder": {"contrastive_weight": 0.0},
    "evaluation": {"every": 2, "tasks": 3},
    "tasks": {"num_train": 4, "num_test": 3},
}
UPDATES = 2 * 2 + 3  # two epochs of two minibatches, and three of the memory


def config(method="varibad", **changes):
    return short_config(method, collect={"iterations": ITERATIONS}, **(SMALL | changes))


def run(run_dir, method="varibad", **options):
    return train(config(method), run_dir, device="cpu", progress=False, **options)


def metrics(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time_s" and not k.startswith("rate/")} for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "finished")


def test_a_run_leaves_metrics_scores_and_whole_iterations(finished):
    lines = metrics(finished.run_dir)
    steps = 4 * 3 * 32  # episodes, trials, horizon
    assert [(1, steps * 4 // 3 + steps), (2, steps * 4 // 3 + 2 * steps)] == [
        (line["iteration"], line["env_steps"]) for line in lines[:2]
    ]
    assert [UPDATES, 2 * UPDATES, 3 * UPDATES] == [line["updates"] for line in lines]
    assert [False, True, True] == ["score" in line for line in lines]
    names = {"policy/loss", "policy/value_loss", "policy/entropy", "memory/reward_loss", "memory/divergence"}
    assert names <= lines[-1].keys()
    assert ["000002", "000003"] == sorted(path.name for path in (finished.run_dir / "checkpoints").iterdir())
    assert finished.evaluation.context is not None
    assert finished.evaluation.context.accuracy is None  # no contrast taught it, and there is nothing to ask for keys


def test_the_same_seed_gives_the_same_parameters_and_touches_no_global_random_state(finished, tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (what is checked)
    run(tmp_path)
    assert parameter_hash(finished.run_dir) == parameter_hash(tmp_path)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


class Interruption(NamedTuple):
    """A signal as `owner.name` is called for the so-manieth time, and where the run then stands."""

    owner: object
    name: str
    call: int
    iteration: int


INTERRUPTIONS = [
    Interruption(course, "wander", 1, 0),
    Interruption(recurrent_ppo, "run_trials", 2, 1),
    Interruption(recurrent_ppo.RecurrentPpo, "update", 7, 1),
    Interruption(VariBadLearner, "_teach_memory", 6, 1),
    Interruption(Replay, "add", 3, 2),
    Interruption(milestones.HeldOut, "scores_of", 1, 2),
    Interruption(course, "save_checkpoint", 2, 2),
]


@pytest.mark.parametrize("at", INTERRUPTIONS, ids=lambda at: at.name)
def test_a_signal_stops_whatever_is_under_way_and_the_resumed_run_is_the_unbroken_one(
    finished, tmp_path, monkeypatch, at
):
    function, calls = getattr(at.owner, at.name), 0

    def interrupted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == at.call:
            signal.raise_signal(signal.SIGTERM)
        return function(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(at.owner, at.name, interrupted)
        stopped = run(tmp_path)
    assert (at.call, signal.SIGTERM, None) == (calls, stopped.stopped_by, stopped.evaluation)
    counters = asdict(load_agent(tmp_path).counters)
    assert (at.iteration, at.iteration * UPDATES) == (counters["iteration"], counters["updates"])
    assert metrics(finished.run_dir)[: at.iteration] == metrics(tmp_path)
    resumed = run(tmp_path, resume=True)
    assert parameter_hash(finished.run_dir) == parameter_hash(tmp_path)
    assert finished.evaluation.returns == resumed.evaluation.returns
    assert metrics(finished.run_dir) == metrics(tmp_path)


@pytest.mark.parametrize("method", ["rl2", "varibad"])
def test_a_run_goes_on_from_any_of_its_checkpoints_as_if_nothing_had_been(tmp_path, method):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(whole, method)
    few = config(method).model_copy(update={"collect": config(method).collect.model_copy(update={"iterations": 1})})
    few = few.model_copy(update={"decay_from": 1.0})
    full = config(method).model_copy(update={"decay_from": 1.0})
    train(few, cut, device="cpu", progress=False)
    train(full, cut, device="cpu", progress=False, resume=True)
    train(full, tmp_path / "uncut", device="cpu", progress=False)
    assert parameter_hash(tmp_path / "uncut") == parameter_hash(cut)
    assert parameter_hash(whole) != parameter_hash(cut)  # its learning rate fell


def test_several_seeds_in_one_process_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--seeds: method 'rl2' learns on-policy.*give --seed N"):
        train_seeds(config("rl2"), [0, 1], tmp_path, device="cpu", progress=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_a_run_is_not_begun_anew(finished):
    with pytest.raises(RunError, match="holds a run already"):
        run(finished.run_dir)


def test_a_number_that_is_not_finite_ends_the_run_before_it_is_saved(tmp_path, monkeypatch):
    learn, calls = recurrent_ppo.RecurrentPpo.update, 0

    def broken(self, lesson):
        nonlocal calls
        calls += 1
        metrics = learn(self, lesson)
        return metrics | {"policy/loss": metrics["policy/loss"] * float("nan")} if calls == 6 else metrics

    monkeypatch.setattr(recurrent_ppo.RecurrentPpo, "update", broken)
    with pytest.raises(DivergenceError, match=r"iteration 2, update 2: policy/loss stopped being finite"):
        run(tmp_path, "rl2")
    found = json.loads((tmp_path / "divergence.json").read_text())
    assert ("nan", 1, []) == (found["metrics"]["policy/loss"], found["update"], found["parameters"])
    assert 1 == load_agent(tmp_path).counters.iteration


def test_a_parameter_that_is_not_finite_is_named(tmp_path, monkeypatch):
    def broken(run, stop):
        run.agent.actor.log_std.data[0] = float("inf")

    monkeypatch.setattr(course, "iterate", broken)
    with pytest.raises(DivergenceError, match=r"iteration 1.*actor.log_std stopped being finite"):
        run(tmp_path, "rl2")


def test_a_run_is_evaluated_and_drawn_as_any_other(finished):
    found = evaluate_path(finished.run_dir, trials=5)
    assert (5, 4, "varibad", 2) == (found.trials, len(found.returns), found.method, found.explore_episodes)
    assert (12, 4, 6) == trials_for_report(finished.run_dir).latents.shape  # mean and log variance of three
