import json
import signal

import numpy as np
import pytest
import torch
import yaml
from tiny_run import tiny_config

from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError, ConfigError, DivergenceError, RunError
from ccm_training import train as training
from ccm_training.checkpoint import FOLDER, KEPT, load_agent, parameter_hash
from ccm_training.config import parse_config
from ccm_training.evaluation import evaluate_path

ITERATIONS = 4


def config(method="ccm", **changes):
    few = {"capacity": 2, "warmup_trials": 1, "iterations": ITERATIONS, "tasks": 6}
    small = {
        "collect": few,
        "updates_per_iteration": 2,
        "encoder": {"pretrain_updates": 50},
        "evaluation": {"every": 2, "tasks": 3},
        "checkpoint_every": 1,
        "threads": 1,
    }
    return tiny_config(method, **(small | changes))


def run(run_dir, settings=None, **options):
    return training.train(settings or config(), run_dir, device="cpu", progress=False, **options)


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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


def test_only_the_last_checkpoints_are_kept(finished):
    kept = sorted(path.name for path in (finished.run_dir / FOLDER).iterdir())
    assert kept == [f"{number:06d}" for number in range(ITERATIONS - KEPT + 1, ITERATIONS + 1)]


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
    assert again.model_copy(update={"seconds": 0.0}) == found.model_copy(update={"seconds": 0.0})


def test_the_same_seed_gives_the_same_parameters_and_touches_no_global_random_state(finished, tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (what is checked)
    run(tmp_path / "again")
    assert parameter_hash(finished.run_dir) == parameter_hash(tmp_path / "again")
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_another_seed_gives_other_parameters(finished, tmp_path):
    run(tmp_path / "other", config(seed=1))
    assert parameter_hash(finished.run_dir) != parameter_hash(tmp_path / "other")


def stop_after(monkeypatch, iterations, number):
    """Send ourselves a signal while an iteration collects."""
    collect = training.collect

    def interrupted(experiment):
        collect(experiment)
        if experiment.counters.iteration == iterations - 1:
            signal.raise_signal(number)

    monkeypatch.setattr(training, "collect", interrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_and_resumed_run_is_the_unbroken_one(finished, tmp_path, monkeypatch, number):
    with monkeypatch.context() as patch:
        stop_after(patch, 2, number)
        stopped = run(tmp_path / "run")
    assert stopped.stopped_by is number
    assert stopped.evaluation is None
    assert load_agent(tmp_path / "run").counters.iteration == 2
    resumed = run(tmp_path / "run", resume=True)
    assert resumed.stopped_by is None
    assert parameter_hash(finished.run_dir) == parameter_hash(tmp_path / "run")
    assert resumed.evaluation.returns == finished.evaluation.returns
    assert list(range(1, ITERATIONS + 1)) == [line["iteration"] for line in metrics(tmp_path / "run")]


def test_a_run_goes_on_with_its_own_settings_alone(copied):
    other = config(collect={"capacity": 2, "warmup_trials": 1, "iterations": 3, "tasks": 5}, seed=1, threads=1)
    with pytest.raises(
        ConfigError, match=r"was begun with other settings: seed was 0, is 1; collect.tasks was 6, is 5;"
    ):
        run(copied, other, resume=True)


def test_a_finished_run_may_go_on_for_longer(copied):
    longer = config(collect={"capacity": 2, "warmup_trials": 1, "iterations": 3, "tasks": 6})
    assert run(copied, longer, resume=True).stopped_by is None
    assert load_agent(copied).counters.iteration == 3


def test_signals_are_handled_as_before_after_a_run(tmp_path, monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop_after(monkeypatch, 1, signal.SIGTERM)
    assert run(tmp_path / "run").stopped_by is signal.SIGTERM
    assert before == {number: signal.getsignal(number) for number in before}


def test_a_run_is_not_overwritten(finished):
    with pytest.raises(RunError, match="holds a run already; go on with --resume"):
        run(finished.run_dir)


def test_a_folder_without_a_checkpoint_cannot_be_resumed(tmp_path):
    with pytest.raises(CheckpointMissingError, match="no checkpoint there"):
        run(tmp_path / "nothing", resume=True)


def damage(folder):
    path = folder / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def copied(tmp_path):
    """A run of its own, to be damaged."""
    run(tmp_path / "run", config(collect={"capacity": 2, "warmup_trials": 1, "iterations": 2, "tasks": 6}))
    return tmp_path / "run"


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(copied):
    damage(copied / FOLDER / "000002")
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


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
    build = training.build

    def poisoned(*arguments):
        experiment = build(*arguments)
        with torch.no_grad():
            experiment.agent.bilinear.fill_(float("nan"))
        return experiment

    monkeypatch.setattr(training, "build", poisoned)
    with pytest.raises(DivergenceError, match=r"iteration 1: .* stopped being finite"):
        run(tmp_path / "run", config(encoder={"pretrain_updates": 0}))


@pytest.mark.parametrize("method", ["pearl", "oracle", "random"])
def test_every_method_trains_and_is_evaluated(tmp_path, method):
    found = run(tmp_path / method, config(method)).evaluation
    assert found.method == method
    assert found.explore_episodes == (0 if method == "oracle" else 2)
    assert np.isfinite(found.returns).all()
    assert evaluate_path(tmp_path / method, trials=3).trials == 3


def test_what_is_neither_a_run_nor_a_bundle_cannot_be_evaluated(tmp_path):
    with pytest.raises(CheckpointMissingError, match=r"neither a run .* nor a bundle"):
        evaluate_path(tmp_path)
