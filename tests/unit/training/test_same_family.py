"""A family that was changed after a run was trained on it is told as that, and changes nothing in silence."""

import pytest
from tiny_run import short_config

from ccm_runtime.errors import ConfigError
from ccm_runtime.specs import BoxSpec
from ccm_training import checkpoint, cohort
from ccm_training import train as training
from ccm_training.checkpoint import load_agent, parameter_hash
from ccm_training.envs.point_robot import HardPointRobot

FAMILY = HardPointRobot("robots-of-mine", aligned=True)
METHODS = ["ccm", "rl2", "maml", "oracle"]
TRIAL = {"execute_episodes": 2}  # K is the family's


def box(of, *more, high=None):
    """A box like another of the family's, with more entries or other bounds."""
    return BoxSpec(
        name=of.name,
        labels=(*of.labels, *more),
        units=(*of.units, *("m" for _ in more)),
        low=(*of.low, *(-1.0 for _ in more)),
        high=(*(high or of.high), *(1.0 for _ in more)),
    )


class Changed:
    """The family with some of its attributes changed."""

    def __init__(self, **changes):
        self._changes = changes

    def __getattr__(self, name):
        return self._changes.get(name) or getattr(FAMILY, name)


SIZES = {
    "observations of size 2; it now has 3": {"observation": box(FAMILY.observation, "z")},
    "actions of size 2; it now has 3": {"action": box(FAMILY.action, "dz")},
    r"entry 1 of actions in -0\.1 to 0\.1; it now has -0\.1 to 0\.2": {"action": box(FAMILY.action, high=(0.1, 0.2))},
}
SHAPES = {
    "episodes of 32 steps; it now has 40": {"horizon": 40},
    "trials of 6 episodes; it now has 5": {"explore_episodes": 3},
}


def now_is(monkeypatch, family):
    for module in (training, cohort, checkpoint):
        monkeypatch.setattr(module, "get_family", lambda _: family)


def refused(run_dir, why):
    return pytest.raises(ConfigError, match=rf"^{run_dir} was trained on robots-of-mine with {why}; train anew, or put")


@pytest.fixture(scope="module", params=METHODS)
def trained(request, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / request.param
    with pytest.MonkeyPatch.context() as patch:
        now_is(patch, FAMILY)
        training.train(settings(request.param), run_dir, device="cpu", progress=False)
    return request.param, run_dir


def settings(method):
    return short_config(method, trial=TRIAL, collect={"iterations": 1}, family=FAMILY.name, gradient={"rollouts": 2})


@pytest.mark.parametrize("why", SIZES)
def test_another_size_or_other_bounds_are_told_whoever_loads_the_run(trained, monkeypatch, why):
    method, run_dir = trained
    now_is(monkeypatch, Changed(**SIZES[why]))
    before = parameter_hash(run_dir)
    with refused(run_dir, why):
        load_agent(run_dir)
    with refused(run_dir, why):
        training.train(settings(method), run_dir, device="cpu", resume=True, progress=False)
    assert before == parameter_hash(run_dir)


@pytest.mark.parametrize("trained", ["oracle"], indirect=True)
def test_what_else_is_of_another_shape_is_told_by_its_name(trained, monkeypatch):
    _, run_dir = trained
    now_is(monkeypatch, Changed(task_features=lambda tasks: tasks))
    with refused(run_dir, r"agent\..* of shape \[.*\]; it now has \[.*\]"):
        load_agent(run_dir)


@pytest.mark.parametrize("trained", ["ccm"], indirect=True)
@pytest.mark.parametrize("why", SHAPES)
def test_trials_of_another_shape_do_not_go_into_the_same_replay(trained, monkeypatch, why):
    method, run_dir = trained
    now_is(monkeypatch, Changed(**SHAPES[why]))
    with refused(run_dir, why):
        training.train(settings(method), run_dir, device="cpu", resume=True, progress=False)
    assert load_agent(run_dir).agent is not None  # it may act in them
