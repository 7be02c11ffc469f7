"""A number that is not finite ends the run with what it came from, and never gets into a checkpoint."""

import json
import sys

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_run import short_config

from ccm_runtime import cli
from ccm_runtime.errors import DivergenceError, SimulationError
from ccm_training import batch as lessons
from ccm_training import cohort
from ccm_training import train as training
from ccm_training.checkpoint import load_agent
from ccm_training.envs.called import called
from ccm_training.envs.failing import blamed
from ccm_training.envs.registry import get_family
from ccm_training.updates import Learner

NAN = float("nan")


def config(**changes):
    return short_config(collect={"iterations": 3, "tasks": 6}, updates_per_iteration=4, **changes)


def diverges(run_dir, settings=None):
    with pytest.raises(DivergenceError) as caught:
        training.train(settings or config(), run_dir, device="cpu", progress=False)
    assert str(run_dir / "divergence.safetensors") in str(caught.value)
    state = json.loads((run_dir / "divergence.json").read_text())
    return str(caught.value), state, load_file(run_dir / "divergence.safetensors")


def spoil(monkeypatch, method, call, effect):
    """Let something go wrong after one call of the learner; the batches that it was given."""
    given, original = [], getattr(Learner, method)

    def spoiled(learner, batch, draws):
        given.append(batch)
        metrics = original(learner, batch, draws)
        if len(given) == call:
            effect(learner, metrics)
        return metrics

    monkeypatch.setattr(Learner, method, spoiled)
    return given


def loses_a_metric(_learner, metrics):
    metrics["executor/critic_loss"] = torch.tensor(NAN)


@torch.no_grad()
def loses_a_parameter(learner, _metrics):
    learner.agents.agent.explorer.actor.body[0].weight[0, 0] = NAN


def test_the_offending_update_is_found_and_its_batch_and_the_one_before_are_kept(tmp_path, monkeypatch):
    given = spoil(monkeypatch, "update", 7, loses_a_metric)
    message, state, batches = diverges(tmp_path)
    assert message.startswith("iteration 2, update 3: executor/critic_loss stopped being finite; its batch is in ")
    assert message.endswith(
        "and the last checkpoint is from before. As to the cause: lower policy.learning_rate or encoder.learning_rate"
    )
    assert (1, 2, "nan", {}) == tuple(
        (state | state["metrics"])[name] for name in ("iteration", "update", "executor/critic_loss", "entries")
    )
    for name, batch in (("batch", given[6]), ("before", given[5])):
        assert torch.equal(batch.features, batches[f"{name}.features"])
        assert torch.equal(batch.trials.observation, batches[f"{name}.trials.observation"])
        assert torch.equal(batch.keys.reward, batches[f"{name}.keys.reward"])
        assert torch.equal(batch.rows.action, batches[f"{name}.rows.action"])


def test_a_parameter_that_is_not_finite_reaches_no_checkpoint(tmp_path, monkeypatch):
    given = spoil(monkeypatch, "update", 8, loses_a_parameter)
    message, state, batches = diverges(tmp_path)
    assert "iteration 2, update 4: explorer.actor.body.0.weight stopped being finite" in message
    assert ["explorer.actor.body.0.weight"] == state["parameters"]
    assert torch.equal(given[7].rows.reward, batches["batch.rows.reward"])
    assert 1 == load_agent(tmp_path).counters.iteration
    assert all(value.isfinite().all() for value in load_agent(tmp_path).agent.state_dict().values())


def test_a_loss_of_pre_training_that_is_not_finite_ends_the_run_too(tmp_path, monkeypatch):
    def loses_the_contrast(_learner, metrics):
        metrics["encoder/contrastive_loss"] = torch.tensor(float("inf"))

    spoil(monkeypatch, "pretrain", 33, loses_the_contrast)
    message, _, _ = diverges(tmp_path, config(encoder={"pretrain_updates": 50}))
    assert "update 33: encoder/contrastive_loss stopped being finite" in message
    assert "and there is no checkpoint yet, and the run will begin again. " in message


def test_a_batch_that_holds_no_numbers_is_named_as_the_cause(tmp_path, monkeypatch):
    sample = lessons.sample_batch

    def poisoned(replay, *rest):
        replay.rows.reward[0] = NAN
        return sample(replay, *rest)

    monkeypatch.setattr(cohort, "sample_batch", poisoned)
    message, state, _ = diverges(tmp_path)
    assert "the batch itself holds what is no number" in message
    assert "look at the family's rewards and observations" in message
    assert any(name.startswith("batch.") and name.endswith(".reward") for name in state["entries"])


class Broken:
    """A family whose simulations break down at some step."""

    def __init__(self, break_down):
        self._family, self._break_down = get_family("hard-point-robot-aligned"), break_down

    def __getattr__(self, name):
        return getattr(self._family, name)

    def make(self, tasks, seed=0):
        env = self._family.make(tasks, seed)
        step = env.step
        env.step = lambda action: self._break_down(step(action))
        return env


def crashes(_step):
    raise ZeroDivisionError("the robot fell through the floor")


def pays_nan(step):
    return step._replace(reward=step.reward * NAN)


def sees_nan(step):
    return step._replace(observation=step.observation * np.nan)


def test_a_simulation_that_crashes_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "get_family", lambda _: called(Broken(crashes), "robots:Broken", blamed))
    expected = (
        r"the simulation of robots:Broken failed at .*test_divergence\.py:\d+: ZeroDivisionError: "
        r"the robot fell through the floor; .*go on with --resume"
    )
    with pytest.raises(SimulationError, match=expected):
        training.train(config(), tmp_path, device="cpu", progress=False)


def test_a_family_of_ours_that_crashes_is_told_with_what_is_saved_too(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "get_family", lambda _: Broken(crashes))
    expected = (
        "the simulation of hard-point-robot-aligned failed: ZeroDivisionError: the robot fell through the floor; "
        "there is no checkpoint yet, .* Please report it; --resume goes on"
    )
    with pytest.raises(SimulationError, match=expected):
        training.train(config(), tmp_path, device="cpu", progress=False)


@pytest.mark.parametrize("break_down", [crashes, pays_nan, sees_nan])
def test_a_simulation_that_breaks_down_ends_the_command_with_code_8(tmp_path, monkeypatch, capsys, break_down):
    monkeypatch.setattr(cohort, "get_family", lambda _: called(Broken(break_down), "robots:Broken", blamed))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config().model_dump(mode="json")))
    monkeypatch.setattr(
        sys, "argv", ["ccm", "train", "--config", f"{tmp_path}/config.yaml", "--run-dir", f"{tmp_path}/run"]
    )
    monkeypatch.setattr("warnings.showwarning", print)  # main() sets it for the process
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert 8 == ended.value.code
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("ccm: error: ")
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))
