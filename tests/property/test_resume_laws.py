"""Whatever ends a run, `--resume` leads to the parameters and the metrics of a run that nothing ended."""

import json
import random
import signal

import pytest
from killed_run import ITERATIONS, go_on

from ccm_runtime.crash_points import COHORT, TRAINING
from ccm_training.checkpoint import load_agent, parameter_hash
from ccm_training.run_folder import METRICS


def lines(run_dir):
    """Lines of the metrics, without what the clock says."""
    found = [json.loads(line) for line in (run_dir / METRICS).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time_s" and not k.startswith("rate/")} for line in found]


def scores(run_dir):
    found = json.loads((run_dir / "evaluation.json").read_text())
    return {name: value for name, value in found.items() if name != "seconds"}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that nothing ended, and how many calls it made."""
    run_dir = tmp_path_factory.mktemp("unbroken") / "run"
    exit_code, calls = go_on(run_dir)
    assert exit_code == 0
    assert [line["iteration"] for line in lines(run_dir)] == list(range(1, ITERATIONS + 1))
    return run_dir, calls


def is_the_same(run_dir, unbroken_dir):
    assert parameter_hash(unbroken_dir) == parameter_hash(run_dir)
    assert lines(unbroken_dir) == lines(run_dir)
    assert scores(unbroken_dir) == scores(run_dir)
    return True


@pytest.mark.parametrize(
    ("number", "seed"), [*((signal.SIGKILL, seed) for seed in range(5)), *((signal.SIGTERM, seed) for seed in range(3))]
)
def test_a_run_that_is_ended_at_random_moments_and_resumed_is_the_unbroken_one(tmp_path, unbroken, number, seed):
    unbroken_dir, calls = unbroken
    rng = random.Random(seed)
    by_the_signal_itself_or_in_the_run_s_own_way = {-number, 128 + number}
    for _ in range(5 if number == signal.SIGKILL else 2):
        exit_code, _ = go_on(tmp_path, signal=number, at_call=rng.randrange(1, calls // 4))
        assert exit_code in by_the_signal_itself_or_in_the_run_s_own_way
    assert go_on(tmp_path)[0] == 0
    assert is_the_same(tmp_path, unbroken_dir)


@pytest.mark.parametrize("point", [point for point in TRAINING if point.startswith("checkpoint")])
def test_a_run_that_is_killed_between_any_two_steps_of_saving_is_the_unbroken_one(tmp_path, unbroken, point):
    assert go_on(tmp_path, crash_at=f"{point}:{ITERATIONS}")[0] == -9
    assert load_agent(tmp_path).counters.iteration in {ITERATIONS - 1, ITERATIONS}
    assert go_on(tmp_path)[0] == 0
    assert is_the_same(tmp_path, unbroken[0])


@pytest.mark.parametrize("point", [point for point in TRAINING if point.startswith("metrics")])
def test_a_run_that_is_killed_while_it_is_resumed_loses_no_line(tmp_path, unbroken, point):
    assert go_on(tmp_path, crash_at="checkpoint.begun:3")[0] == -9
    assert len(lines(tmp_path)) == 3
    assert go_on(tmp_path, crash_at=point)[0] == -9
    assert go_on(tmp_path)[0] == 0
    assert is_the_same(tmp_path, unbroken[0])


@pytest.mark.parametrize("method", ["rl2", "varibad"])
def test_a_run_that_learns_on_policy_and_is_ended_at_random_moments_is_the_unbroken_one(tmp_path, method):
    exit_code, calls = go_on(tmp_path / "unbroken", method=method)
    assert exit_code == 0
    rng = random.Random(0)
    for number in (signal.SIGKILL, signal.SIGTERM):
        exit_code, _ = go_on(tmp_path / "run", method=method, signal=number, at_call=rng.randrange(1, calls // 3))
        assert exit_code in {-number, 128 + number}
    assert go_on(tmp_path / "run", method=method)[0] == 0
    assert is_the_same(tmp_path / "run", tmp_path / "unbroken")


SEEDS = (0, 3)


@pytest.fixture(scope="module")
def unbroken_seeds(tmp_path_factory):
    """Seeds that nothing ended, and how many calls they made."""
    run_dir = tmp_path_factory.mktemp("unbroken") / "seeds"
    exit_code, calls = go_on(run_dir, seeds=SEEDS)
    assert exit_code == 0
    return run_dir, calls


def are_the_same(run_dir, unbroken_dir):
    return all(is_the_same(run_dir / f"seed-{seed}", unbroken_dir / f"seed-{seed}") for seed in SEEDS)


def test_seeds_that_are_killed_together_at_random_moments_are_the_unbroken_ones(tmp_path, unbroken_seeds):
    unbroken_dir, calls = unbroken_seeds
    rng = random.Random(0)
    for _ in range(3):
        at_call = rng.randrange(1, calls // 3)
        assert go_on(tmp_path, seeds=SEEDS, signal=signal.SIGKILL, at_call=at_call)[0] == -signal.SIGKILL
    assert go_on(tmp_path, seeds=SEEDS)[0] == 0
    assert are_the_same(tmp_path, unbroken_dir)


@pytest.mark.parametrize("at", [*(f"{point}:2" for point in COHORT), "checkpoint.renamed:5"])
def test_seeds_that_are_killed_while_some_are_saved_and_some_are_not_are_the_unbroken_ones(
    tmp_path, unbroken_seeds, at
):
    assert go_on(tmp_path, seeds=SEEDS, crash_at=at)[0] == -9
    assert go_on(tmp_path, seeds=SEEDS)[0] == 0
    assert are_the_same(tmp_path, unbroken_seeds[0])
