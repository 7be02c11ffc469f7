"""A run is a function of its seed, and whatever stops it, it goes on as if nothing had."""

import errno
import json
import signal
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import pytest
import torch
import typer
import yaml
from tiny_run import short_config

from ccm_runtime.commands import train as command
from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError, ConfigError, RunError
from ccm_training import checkpoint, cohort_folder, collecting, milestones, scores
from ccm_training import train as training
from ccm_training.checkpoint import FOLDER, load_agent, parameter_hash
from ccm_training.config import parse_config
from ccm_training.evaluation import evaluate_path
from ccm_training.methods import METHODS
from ccm_training.updates import Learner

ITERATIONS = 4


def config(method="ccm", *, iterations=ITERATIONS, tasks=6, **changes):
    taught = {"encoder": {"pretrain_updates": 50}, "evaluation": {"every": 2, "tasks": 3}}
    return short_config(method, {"iterations": iterations, "tasks": tasks}, **(taught | changes))


def run(run_dir, settings=None, **options):
    return training.train(settings or config(), run_dir, device="cpu", progress=False, **options)


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    return run(run_dir)


def test_a_run_leaves_settings_metrics_scores_and_a_checkpoint(finished):
    run_dir = finished.run_dir
    assert config() == parse_config(yaml.safe_load((run_dir / "config.yaml").read_text()), where="saved")
    lines = metrics(run_dir)
    assert list(range(1, ITERATIONS + 1)) == [line["iteration"] for line in lines]
    assert [False, True, False, True] == ["score" in line for line in lines]
    assert finished.evaluation.model_dump(mode="json") == json.loads((run_dir / "evaluation.json").read_text())
    assert load_agent(run_dir).counters.iteration == ITERATIONS
    assert load_agent(run_dir).counters.updates == 2 * ITERATIONS


@pytest.mark.parametrize("num", [1, 3])
def test_so_many_checkpoints_are_kept_as_asked(tmp_path, num):
    run(tmp_path, config(checkpoints_kept=num))
    kept = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert kept == [f"{number:06d}" for number in range(ITERATIONS - num + 1, ITERATIONS + 1)]


@pytest.mark.parametrize("method", ["ccm", "rl2"])
def test_what_random_actions_earn_is_found_out_once_while_a_run_trains_and_once_at_its_end(
    tmp_path, monkeypatch, method
):
    def scored(run_dir):
        settings = config(method, iterations=3, evaluation={"every": 1, "tasks": 3})
        run(run_dir, settings)
        return [(line["score"], line["returns"]) for line in metrics(run_dir)]

    calls, floor_of, evaluate = [], scores.floor_of, milestones.evaluate
    for module in (milestones, scores):
        monkeypatch.setattr(module, "floor_of", lambda *what, **how: calls.append(what) or floor_of(*what, **how))
    found = scored(tmp_path / "once")
    assert len(calls) == 2
    monkeypatch.setattr(milestones, "evaluate", lambda *what, **how: evaluate(*what, **(how | {"floor": None})))
    assert scored(tmp_path / "each time") == found
    assert len(calls) > 2 + 2


def test_env_steps_count_every_transition(finished):
    plan = load_agent(finished.run_dir).adaptation
    trial = plan.episodes * plan.horizon
    assert metrics(finished.run_dir)[-1]["env_steps"] == 6 * trial * (1 + ITERATIONS)


def test_the_evaluation_is_of_the_whole_trial_on_held_out_tasks(finished):
    found = finished.evaluation
    assert len(found.returns) == len(found.certainty) == 4
    assert (found.explore_episodes, found.trials, found.tasks) == (2, 5, "test")
    assert found.adaptation_score == pytest.approx(found.returns[2] / found.ceiling, rel=1e-4)
    assert found.interval[0] <= found.adaptation_score <= found.interval[1]
    again = evaluate_path(finished.run_dir)
    told_at_the_end = {"seconds": again.seconds, "context": again.context}
    assert again == found.model_copy(update=told_at_the_end)


def test_the_same_seed_gives_the_same_parameters_and_touches_no_global_random_state(finished, tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (what is checked)
    run(tmp_path / "again")
    assert parameter_hash(finished.run_dir) == parameter_hash(tmp_path / "again")
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_another_seed_gives_other_parameters(finished, tmp_path):
    run(tmp_path / "other", config(seed=1))
    assert parameter_hash(finished.run_dir) != parameter_hash(tmp_path / "other")


def stop_in(monkeypatch, module, name, *, call=1, number=signal.SIGTERM):
    """Send ourselves a signal as a function is called for the so-manieth time."""
    function, calls = getattr(module, name), 0

    def interrupted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(number)
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, interrupted)
    return lambda: calls


class Interruption(NamedTuple):
    """A signal as `owner.name` is called for the so-manieth time, and where the run then stands."""

    owner: object
    name: str
    call: int
    iteration: int
    counted: dict


INTERRUPTIONS = [
    Interruption(training, "wander", 1, 0, {"warmup_trials": 0, "env_steps": 0}),
    Interruption(Learner, "pretrain", 7, 0, {"warmup_trials": 1, "pretrain_updates": 7, "pretrained": False}),
    Interruption(collecting, "run_trials", 2, 1, {"iteration": 1, "updates": 2}),
    Interruption(Learner, "update", 3, 1, {"iteration": 1, "updates": 3}),
    Interruption(milestones.HeldOut, "scores_of", 1, 1, {"iteration": 1, "updates": 4}),
    Interruption(cohort_folder, "save_checkpoint", 3, 3, {"iteration": 3, "updates": 6}),
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", INTERRUPTIONS, ids=lambda at: at.name)
def test_a_signal_stops_whatever_is_under_way_and_the_resumed_run_is_the_unbroken_one(
    finished, tmp_path, monkeypatch, number, at
):
    with monkeypatch.context() as patch:
        calls = stop_in(patch, at.owner, at.name, call=at.call, number=number)
        stopped = run(tmp_path / "run")
    assert calls() == at.call
    assert (number, None) == (stopped.stopped_by, stopped.evaluation)
    counters = asdict(load_agent(tmp_path / "run").counters)
    assert at.counted == {name: counters[name] for name in at.counted}
    assert list(range(1, at.iteration + 1)) == [line["iteration"] for line in metrics(tmp_path / "run")]
    resumed = run(tmp_path / "run", resume=True)
    assert resumed.stopped_by is None
    assert parameter_hash(finished.run_dir) == parameter_hash(tmp_path / "run")
    assert resumed.evaluation.returns == finished.evaluation.returns
    assert list(range(1, ITERATIONS + 1)) == [line["iteration"] for line in metrics(tmp_path / "run")]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_ends_with_the_documented_code(tmp_path, monkeypatch, capsys, number, exit_code):
    stop_in(monkeypatch, collecting, "run_trials", number=number)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config().model_dump(mode="json")))
    with pytest.raises(typer.Exit) as ended:
        command.train(
            str(tmp_path / "config.yaml"),
            [],
            method=None,
            seed=None,
            device="cpu",
            run_dir=tmp_path / "run",
            resume=False,
        )
    assert exit_code == ended.value.exit_code
    assert f"stopped by {number.name}; go on with the same command and --resume" in capsys.readouterr().err


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(finished, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "pretrain", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    with pytest.warns(UserWarning, match="stopped before its first checkpoint; the run begins again"):
        run(tmp_path, resume=True)
    assert parameter_hash(finished.run_dir) == parameter_hash(tmp_path)


def test_a_run_goes_on_with_its_own_settings_alone(copied):
    other = config(iterations=3, tasks=5, seed=1)
    with pytest.raises(
        ConfigError, match=r"was begun with other settings: seed was 0, is 1; collect.tasks was 6, is 5;"
    ):
        run(copied, other, resume=True)


def test_a_finished_run_may_go_on_for_longer(copied):
    longer = config(iterations=3)
    assert run(copied, longer, resume=True).stopped_by is None
    assert load_agent(copied).counters.iteration == 3


def test_a_run_is_not_resumed_to_fewer_iterations_than_it_has_done(copied):
    with pytest.raises(ConfigError, match=r"has done 2 iterations; collect\.iterations is 1, fewer"):
        run(copied, config(iterations=1), resume=True)


def test_signals_are_handled_as_before_after_a_run(tmp_path, monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop_in(monkeypatch, collecting, "run_trials")
    assert run(tmp_path / "run").stopped_by is signal.SIGTERM
    assert before == {number: signal.getsignal(number) for number in before}


def test_a_run_is_not_overwritten(finished):
    with pytest.raises(RunError, match="holds a run already; go on with --resume"):
        run(finished.run_dir)


def test_a_folder_without_a_checkpoint_cannot_be_resumed(tmp_path):
    with pytest.raises(CheckpointMissingError, match="no checkpoint there"):
        run(tmp_path / "nothing", resume=True)
    assert [] == list(tmp_path.iterdir())


def damage(folder):
    path = folder / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def copied(tmp_path):
    """A run of its own, to be damaged."""
    run(tmp_path / "run", config(iterations=2))
    return tmp_path / "run"


def test_a_checkpoint_that_the_disk_has_no_room_for_takes_up_none(copied, monkeypatch):
    def full(path, *_):
        path.write_bytes(b"what there was room for")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted((copied / FOLDER).iterdir())
    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        run(copied, config(iterations=3), resume=True)
    assert before == sorted((copied / FOLDER).iterdir())


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(copied):
    damage(copied / FOLDER / "000002")
    with pytest.warns(UserWarning, match="damaged checkpoint passed over: .*000002"):
        assert load_agent(copied).counters.iteration == 1


def test_damaged_scores_or_settings_of_a_run_are_named(copied):
    (copied / "evaluation.json").write_text('{"returns": [1.0')
    with pytest.raises(CheckpointCorruptError, match=r"evaluation\.json is damaged: it is no JSON"):
        load_agent(copied)
    (copied / "config.yaml").write_bytes(b"\xff\xff")
    with pytest.raises(CheckpointCorruptError, match=r"config\.yaml is damaged: it is no text in UTF-8"):
        checkpoint.read_config(copied)


def test_a_damaged_checkpoint_is_set_aside_when_the_run_goes_on(copied):
    whole = parameter_hash(copied)
    damage(copied / FOLDER / "000002")
    shorter = config(iterations=2)
    with pytest.warns(UserWarning, match="damaged checkpoint set aside: .*000002: SHA-256 is .*, expected "):
        run(copied, shorter, resume=True)
    assert ["000001", "000002", "damaged-000002"] == sorted(path.name for path in (copied / FOLDER).iterdir())
    assert whole == parameter_hash(copied)


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
def test_a_flipped_bit_anywhere_in_a_checkpoint_is_seen(copied, file):
    path, rng = copied / FOLDER / "000002" / file, np.random.default_rng(0)
    content = path.read_bytes()
    for place, bit in zip(rng.integers(0, len(content), 40), rng.integers(0, 8, 40), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="damaged checkpoint passed over: .*000002"):
            assert load_agent(copied).counters.iteration == 1


def test_a_run_without_a_whole_checkpoint_is_refused(copied):
    for name in ("000001", "000002"):
        damage(copied / FOLDER / name)
    with (
        pytest.warns(UserWarning, match="damaged checkpoint passed over"),
        pytest.raises(CheckpointCorruptError, match="no checkpoint is whole"),
    ):
        load_agent(copied)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "ccm"])
def test_every_method_trains_and_is_evaluated(tmp_path, method):
    found = run(tmp_path / method, config(method)).evaluation
    assert found.method == method
    assert found.explore_episodes == (0 if method == "oracle" else 2)
    assert (found.context is not None) == METHODS[method].encoder
    assert np.isfinite(found.returns).all()
    assert evaluate_path(tmp_path / method, trials=3).trials == 3


def test_what_is_neither_a_run_nor_a_bundle_cannot_be_evaluated(tmp_path):
    with pytest.raises(CheckpointMissingError, match=r"neither a run .* nor a bundle"):
        evaluate_path(tmp_path)
