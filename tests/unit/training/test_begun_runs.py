"""A folder in which a run begins, or goes on, tells of that run alone."""

import json
import threading

import pytest
from tiny_run import short_config

from ccm_runtime.errors import RunError, SimulationError
from ccm_training import call_watch, checkpoint
from ccm_training import train as training
from ccm_training.checkpoint import load_agent
from ccm_training.envs.point_robot import HardPointRobot
from ccm_training.run_folder import summarize
from ccm_training.train import train


class KilledError(BaseException):
    """Nobody catches it."""


def test_a_run_that_goes_on_and_is_killed_before_it_is_scored_has_no_score_of_its_earlier_end(tmp_path, monkeypatch):
    train(short_config(), tmp_path, progress=False)
    assert summarize(tmp_path).state == "finished"

    def killed(_run_dir):
        raise KilledError

    monkeypatch.setattr(training, "evaluated", killed)
    with pytest.raises(KilledError):
        train(short_config(collect={"iterations": 4}), tmp_path, resume=True, progress=False)

    found = summarize(tmp_path)
    assert ("stopped", 4, None) == (found.state, found.iteration, found.score)
    assert load_agent(tmp_path).scores is None


class Hanging(HardPointRobot):
    """Nobody waits for its simulations as long as they take."""

    def make(self, tasks, seed=0):
        threading.Event().wait(10.0)
        return super().make(tasks, seed)


@pytest.mark.parametrize("method", ["ccm", "rl2"])
def test_a_run_at_its_end_is_scored_with_the_patience_that_it_is_resumed_with(tmp_path, monkeypatch, method):
    def go_on(limit_s):
        return train(
            short_config(method, collect={"simulation_limit_s": limit_s}), tmp_path, resume=True, progress=False
        )

    train(short_config(method), tmp_path, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(call_watch, "TICK_S", 0.01)
        patch.setattr(checkpoint, "get_family", lambda name: Hanging(name, aligned=True))
        with pytest.raises(SimulationError, match=r"longer than collect\.simulation_limit_s; .* raise the limit"):
            go_on(0.05)
    assert summarize(tmp_path).state == "stopped"
    assert go_on(600.0).evaluation is not None
    assert summarize(tmp_path).state == "finished"


def test_a_run_that_begins_anew_has_not_diverged(tmp_path, monkeypatch):
    (tmp_path / "divergence.json").write_text(json.dumps({"iteration": 1}))  # of one that had no checkpoint

    def killed(*_):
        raise KilledError

    monkeypatch.setattr(training, "warm_up", killed)
    with pytest.raises(KilledError):
        train(short_config(), tmp_path, progress=False)
    assert summarize(tmp_path).state == "stopped"


def test_a_run_does_not_begin_where_another_process_has_trained_one_meanwhile(tmp_path, monkeypatch):
    build = training.build_cohort

    def slowly(*given):
        monkeypatch.setattr(training, "build_cohort", build)
        train(short_config(), tmp_path, progress=False)  # another process
        return build(*given)

    monkeypatch.setattr(training, "build_cohort", slowly)
    with pytest.raises(RunError, match="holds a run already"):
        train(short_config(seed=5), tmp_path, progress=False)
    assert summarize(tmp_path).config["seed"] == load_agent(tmp_path).config.seed == 0


@pytest.mark.parametrize("most", [0, 3, 50, 53])
def test_the_encoder_alone_is_taught_no_longer_than_its_budget(tmp_path, most):
    config = short_config(encoder={"pretrain_updates": most, "queries": 2, "key_rows": 4})
    train(config, tmp_path, progress=False)
    assert most == load_agent(tmp_path).counters.pretrain_updates
