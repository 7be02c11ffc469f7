"""A checkpoint holds the trials that were collected, and not the room for more of them."""

import pytest
from safetensors.torch import load_file
from tiny_run import short_config

from ccm_training.checkpoint import FOLDER, parameter_hash
from ccm_training.train import train

ROOM, ITERATIONS = 40, 3
TASKS = 6


def config(method="ccm", *, iterations=ITERATIONS, room=ROOM):
    return short_config(
        method,
        {"iterations": iterations, "tasks": 3, "capacity": room},
        on_policy={"memory": 4, "minibatches": 2},
        variational={"trials": 2},
    )


def run(run_dir, settings, **options):
    return train(settings, run_dir, device="cpu", progress=False, **options)


def replay_of(run_dir):
    tensors = load_file(max((run_dir / FOLDER).iterdir()) / "tensors.safetensors")
    written = tensors["replay.written"]
    return {name: rows for name, rows in tensors.items() if name.startswith("replay.") and rows is not written}, written


@pytest.mark.parametrize("method", ["ccm", "varibad"])
def test_a_run_with_room_for_more_trials_saves_those_it_has_and_goes_on_as_the_unbroken_one(tmp_path, method):
    run(tmp_path / "unbroken", config(method))
    run(tmp_path / "run", config(method, iterations=1))
    rows, written = replay_of(tmp_path / "run")
    assert 0 < written.max() <= 2
    assert {(TASKS, int(written.max()))} == {tuple(values.shape[:2]) for values in rows.values()}
    run(tmp_path / "run", config(method), resume=True)
    assert parameter_hash(tmp_path / "unbroken") == parameter_hash(tmp_path / "run")
    again, unbroken = replay_of(tmp_path / "run")[0], replay_of(tmp_path / "unbroken")[0]
    assert all(unbroken[name].equal(values) for name, values in again.items())


def test_a_full_replay_is_saved_whole(tmp_path):
    run(tmp_path / "run", config(room=2, iterations=8))
    rows, written = replay_of(tmp_path / "run")
    assert written.max() > 2
    assert {(TASKS, 2)} == {tuple(values.shape[:2]) for values in rows.values()}


def test_room_that_is_never_needed_changes_nothing(tmp_path):
    for room in (7, ROOM):
        run(tmp_path / str(room), config(room=room))
    assert parameter_hash(tmp_path / "7") == parameter_hash(tmp_path / str(ROOM))
