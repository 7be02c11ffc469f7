"""Several seeds in one process leave the runs that each would have left by itself."""

import json
import shutil
import signal
import sys
from dataclasses import asdict

import pytest
import torch
import yaml
from tiny_run import short_config

from ccm_runtime import cli
from ccm_runtime.commands import train as command
from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError, ConfigError, DivergenceError, RunError
from ccm_training import cohort_folder, collecting
from ccm_training import train as training
from ccm_training.checkpoint import FOLDER, load_agent, parameter_hash
from ccm_training.cohort import build_cohort
from ccm_training.evaluation import evaluate_path
from ccm_training.updates import Learner

SEEDS = (0, 1, 4)
ITERATIONS = 3
UNTAUGHT = {"encoder": {"pretrain_updates": 0}, "evaluation": {"every": 0, "tasks": 2}}


def config(iterations=ITERATIONS, **changes):
    small = {
        "tasks": {"num_train": 4, "num_test": 2},
        "trial": {"explore_episodes": 1, "execute_episodes": 1},
        "meta_batch": 3,
        "encoder": {"pretrain_updates": 150, "pretrain_patience": 50, "learning_rate": 1e-5},
        "evaluation": {"every": 2, "tasks": 2},
    }
    return short_config(collect={"iterations": iterations}, **(small | changes))


def run(run_dir, settings=None, seeds=SEEDS, **options):
    return training.train_seeds(settings or config(), seeds, run_dir, device="cpu", progress=False, **options)


def folders(run_dir, seeds=SEEDS):
    return [run_dir / f"seed-{seed}" for seed in seeds]


def hashes(run_dir):
    return [parameter_hash(folder) for folder in folders(run_dir)]


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time_s" and not k.startswith("rate/")} for line in found]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "together"
    results = run(run_dir)
    assert folders(run_dir) == [result.run_dir for result in results]
    return run_dir


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "alone"
    for seed, folder in zip(SEEDS, folders(run_dir), strict=True):
        training.train(config(seed=seed), folder, device="cpu", progress=False)
    return run_dir


def test_each_seed_has_the_folder_that_it_would_have_left_alone(finished, alone):
    taught = set()
    for seed, found, expected in zip(SEEDS, folders(finished), folders(alone), strict=True):
        assert sorted(path.name for path in expected.iterdir()) == sorted(path.name for path in found.iterdir())
        assert (expected / "config.yaml").read_text() == (found / "config.yaml").read_text()
        assert seed == yaml.safe_load((found / "config.yaml").read_text())["seed"]
        own, other = load_agent(found), load_agent(expected)
        assert asdict(other.counters) | {"time_s": 0} == asdict(own.counters) | {"time_s": 0}
        torch.testing.assert_close(other.agent.state_dict(), own.agent.state_dict(), rtol=1e-3, atol=1e-3)
        assert [line.keys() for line in lines(expected)] == [line.keys() for line in lines(found)]
        assert evaluate_path(expected).returns == pytest.approx(evaluate_path(found).returns, rel=1e-2, abs=1e-2)
        taught.add(own.counters.pretrain_updates)
    assert len(taught) > 1  # or nothing was said of seeds that wait for others


def stop_at(monkeypatch, owner, name, call):
    """Send ourselves SIGTERM as a function is called for the so-manieth time."""
    function, calls = getattr(owner, name), 0

    def interrupted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGTERM)
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize(
    "at",
    [
        (Learner, "pretrain", 117),
        (collecting, "run_trials", 2),
        (Learner, "update", 3),
    ],
    ids=lambda at: f"{at[1]} {at[2]}",
)
def test_seeds_that_a_signal_stops_and_that_go_on_are_the_unbroken_ones(finished, tmp_path, monkeypatch, at):
    with monkeypatch.context() as patch:
        stop_at(patch, *at)
        stopped = run(tmp_path)
    assert [signal.SIGTERM] * len(SEEDS) == [result.stopped_by for result in stopped]
    assert [None] * len(SEEDS) == [result.stopped_by for result in run(tmp_path, resume=True)]
    assert hashes(finished) == hashes(tmp_path)
    assert [lines(folder) for folder in folders(finished)] == [lines(folder) for folder in folders(tmp_path)]


@pytest.mark.parametrize("seeds", [(4, 1), (1, 4)], ids=["the first waits", "the last waits"])
def test_seeds_that_are_stopped_twice_while_one_waits_for_the_other_are_the_unbroken_ones(tmp_path, monkeypatch, seeds):
    settings, unbroken, stopped = config(2), tmp_path / "unbroken", tmp_path / "stopped"
    run(unbroken, settings, seeds)
    for attempt, at in enumerate((117, 20)):
        with monkeypatch.context() as patch:
            stop_at(patch, Learner, "pretrain", at)
            run(stopped, settings, seeds, resume=attempt > 0)
    counters = {seed: load_agent(stopped / f"seed-{seed}").counters for seed in seeds}
    assert (100, 137) == tuple(counters[seed].pretrain_updates for seed in (4, 1))
    cohort = build_cohort([settings.model_copy(update={"seed": seed}) for seed in seeds], torch.device("cpu"))
    cohort_folder.CohortFolder.of_seeds(stopped, seeds).restore(cohort)
    assert cohort.time_s == counters[1].time_s > counters[4].time_s
    run(stopped, settings, seeds, resume=True)
    for expected, found in zip(folders(unbroken, seeds), folders(stopped, seeds), strict=True):
        assert parameter_hash(expected) == parameter_hash(found)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two seeds after two iterations."""
    run_dir = tmp_path_factory.mktemp("runs") / "two"
    run(run_dir, config(2, **UNTAUGHT), seeds=(0, 1))
    return run_dir


@pytest.fixture
def short(tmp_path, two):
    """A copy of these, to be damaged."""
    shutil.copytree(two, tmp_path / "two")
    return tmp_path / "two"


def test_one_seed_of_many_goes_on_alone(short):
    result = training.train(config(seed=1, **UNTAUGHT), short / "seed-1", device="cpu", resume=True, progress=False)
    assert result.evaluation is not None
    assert (2, 3) == tuple(load_agent(short / f"seed-{seed}").counters.iteration for seed in (0, 1))


def test_all_go_back_to_where_none_is_damaged(short):
    whole = [parameter_hash(folder) for folder in folders(short, (0, 1))]
    path = short / "seed-1" / FOLDER / "000002" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged checkpoint set aside: .*seed-1.*000002"):
        run(short, config(2, **UNTAUGHT), seeds=(0, 1), resume=True)
    assert whole == [parameter_hash(folder) for folder in folders(short, (0, 1))]
    assert (short / "seed-1" / FOLDER / "damaged-000002").is_dir()


def test_where_none_are_whole_together_each_is_to_go_on_by_itself(short):
    for name in ("000001", "000002"):
        path = short / "seed-1" / FOLDER / name / "state.json"
        path.write_text("{}")
    with (
        pytest.warns(UserWarning, match="damaged checkpoint set aside"),
        pytest.raises(CheckpointCorruptError, match="go on with each seed by itself"),
    ):
        run(short, config(2, **UNTAUGHT), seeds=(0, 1), resume=True)


def test_others_than_the_seeds_that_it_was_begun_with_are_refused(short):
    with pytest.raises(ConfigError, match=r"was begun with --seeds 0,1, got 0,2; resume with those it has"):
        run(short, config(2, **UNTAUGHT), seeds=(0, 2), resume=True)


def test_seeds_are_not_overwritten(short):
    with pytest.raises(RunError, match="holds a run already; go on with --resume"):
        run(short, config(2, **UNTAUGHT), seeds=(0, 1))
    (short / cohort_folder.MARKER).unlink()
    with pytest.raises(RunError, match="seed-1 holds a run already"):
        run(short, config(2, **UNTAUGHT), seeds=(1, 2))
    with pytest.raises(CheckpointMissingError, match=r"no cohort there; expected .*cohort\.json"):
        run(short, config(2, **UNTAUGHT), seeds=(0, 1), resume=True)


def test_what_is_left_of_a_damaged_cohort_is_named(short):
    (short / cohort_folder.MARKER).write_text('{"seeds": [0')
    with pytest.raises(CheckpointCorruptError, match=r"cohort\.json is damaged: it is no JSON"):
        run(short, config(2, **UNTAUGHT), seeds=(0, 1), resume=True)


def test_a_seed_that_diverges_is_named_and_stops_all(tmp_path, monkeypatch):
    update = Learner.update

    def spoiled(learner, batch, draws):
        metrics = update(learner, batch, draws)
        metrics["executor/critic_loss"][1] = float("nan")
        return metrics

    monkeypatch.setattr(Learner, "update", spoiled)
    with pytest.raises(DivergenceError, match=r"seed-1/divergence\.safetensors"):
        run(tmp_path, config(**UNTAUGHT))
    assert (tmp_path / "seed-1" / "divergence.json").is_file()
    assert not (tmp_path / "seed-0" / "divergence.json").exists()
    assert not list(tmp_path.glob("seed-*/checkpoints/*"))


def test_the_command_trains_them_and_says_where_they_are(tmp_path, monkeypatch, capsys):
    small = config(1, **UNTAUGHT)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small.model_dump(mode="json")))
    arguments = ["train", "--config", f"{tmp_path}/config.yaml", "--seeds", "3,5..6", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["ccm", *arguments, "--run-dir", f"{tmp_path}/run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in {0, None}
    told = capsys.readouterr()
    for seed in (3, 5, 6):
        assert f"run:  {tmp_path}/run/seed-{seed}\n" in told.out
    assert f"next: ccm evaluate {tmp_path}/run/seed-3" in told.err


def test_one_seed_and_several_exclude_each_other(tmp_path):
    options = {"method": None, "device": "cpu", "run_dir": tmp_path, "resume": False}
    with pytest.raises(ConfigError, match="--seed and --seeds exclude each other"):
        command.train("point_robot_debug", [], seed=1, seeds="0..1", **options)
