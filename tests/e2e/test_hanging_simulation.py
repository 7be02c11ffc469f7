"""A simulation that does not return never keeps a run waiting for ever, and costs nothing that was saved."""

import json
import signal

import pytest
from hanging_run import train

from ccm_training.checkpoint import load_agent, parameter_hash

IN_WARM_UP, IN_AN_EVALUATION, IN_COLLECTING, IN_THE_LAST_EVALUATION = 10, 200, 300, 580
RESUME = "then go on with --resume"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Parameters of a run that nothing ended, by method."""
    found = {}
    for method in ("ccm", "rl2"):
        folder = tmp_path_factory.mktemp("unbroken")
        assert train(folder, method=method).code == 0
        found[method] = parameter_hash(folder / "run")
    return found


def last_line(ended):
    return ended.said.strip().splitlines()[-1]


def counted(folder):
    counters = load_agent(folder / "run").counters
    return counters.iteration, counters.updates


@pytest.mark.parametrize(("method", "number", "code"), [("ccm", signal.SIGTERM, 143), ("rl2", signal.SIGINT, 130)])
def test_a_signal_ends_a_run_whose_simulation_hangs_with_a_checkpoint(tmp_path, unbroken, method, number, code):
    ended = train(tmp_path, method=method, at_step=IN_COLLECTING, signal=number)
    assert code == ended.code
    assert f"stopped by {number.name}; go on with the same command and --resume" == last_line(ended)
    assert load_agent(tmp_path / "run").counters.iteration == 1
    assert train(tmp_path, method=method).code == 0
    assert unbroken[method] == parameter_hash(tmp_path / "run")


def test_a_run_whose_evaluation_hangs_when_it_is_to_stop_goes_on_after_what_it_had_learnt(tmp_path, unbroken):
    assert train(tmp_path, method="rl2", at_step=IN_AN_EVALUATION, signal=signal.SIGTERM).code == 143
    assert load_agent(tmp_path / "run").counters.iteration == 1
    assert train(tmp_path, method="rl2").code == 0
    assert unbroken["rl2"] == parameter_hash(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(1, False), (2, True), (3, True)] == [(line["iteration"], "score" in line) for line in lines]


@pytest.mark.parametrize(
    ("at_step", "saved"),
    [
        (IN_WARM_UP, "there is no checkpoint yet, and the run will begin again"),
        (IN_THE_LAST_EVALUATION, "the last checkpoint is from before"),
    ],
)
def test_a_simulation_that_hangs_ends_the_run_at_its_limit(tmp_path, unbroken, at_step, saved):
    ended = train(tmp_path, at_step=at_step, simulation_limit_s=2.0)
    assert ended.code == 8
    assert last_line(ended) == (
        "ccm: error: the simulation of hard-point-robot-aligned has not returned for 2 s, longer than "
        f"collect.simulation_limit_s; {saved}. Mend the family, or raise the limit if it is only slow, {RESUME}"
    )
    assert train(tmp_path, simulation_limit_s=60.0).code == 0
    assert unbroken["ccm"] == parameter_hash(tmp_path / "run")


@pytest.mark.parametrize(("asked", "code"), [({"signal": signal.SIGTERM}, 143), ({"simulation_limit_s": 2.0}, 8)])
def test_a_simulation_that_cannot_be_interrupted_ends_the_process(tmp_path, asked, code):
    ended = train(tmp_path, at_step=IN_COLLECTING, way="blocks", **asked)
    assert code == ended.code
    assert "s and cannot be interrupted, so the process ends; the last checkpoint is from before" in last_line(ended)
    assert last_line(ended).endswith(RESUME)
    assert load_agent(tmp_path / "run").counters.iteration == 1


@pytest.mark.parametrize(("asked", "code"), [({"signal": signal.SIGTERM}, 143), ({"simulation_limit_s": 2.0}, 8)])
def test_a_simulation_that_catches_every_error_keeps_nobody_waiting(tmp_path, asked, code):
    assert train(tmp_path, at_step=IN_WARM_UP, way="catches", **asked).code == code
