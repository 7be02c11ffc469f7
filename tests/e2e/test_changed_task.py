"""The agent that comes with the package, on a task that is another one from the seventh episode on."""

import numpy as np
import pytest

from ccm_runtime.bundle import load_bundle
from ccm_runtime.client import Client
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.testing import serve
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import SimulatedTask

BEFORE, AFTER = 6, 8
TASKS = 6


@pytest.fixture(scope="module")
def address():
    with serve(embedded_bundle()) as address:
        yield address


def episode(session, env, options):
    observation, _ = env.reset(options=options)
    action = session.begin_episode(observation)
    while action is not None:
        observation, reward, terminated, truncated, _ = env.step(action)
        action = session.act(observation, reward, terminated=terminated, truncated=truncated)


def returns(address, *, re_explore):
    """Mean return of every episode over tasks that are switched after `BEFORE`, and how often a session said so."""
    family = get_family(load_bundle(embedded_bundle()).manifest.family)
    tasks, told, rows = family.sample_tasks("test", TASKS, 3), 0, []
    with Client(address, timeout_s=60.0) as client:
        for index, task in enumerate(tasks):
            env = SimulatedTask(family, task)
            other = np.where(task > np.pi / 2, task - np.pi / 2, task + np.pi / 2)  # a quarter of a circle away
            with client.open_session(seed=index, re_explore=re_explore) as session:
                for number in range(BEFORE + AFTER):
                    episode(session, env, {"task": other} if number == BEFORE else None)
                    told += session.task_changed
                rows.append(session.returns)
    return np.mean(rows, 0), told


def test_returns_recover_with_re_exploring_and_do_not_without(address):
    with_it, told = returns(address, re_explore=True)
    without, silent = returns(address, re_explore=False)
    assert TASKS == told
    assert 0 == silent
    usual = with_it[BEFORE - 1]
    assert with_it[BEFORE] < 0.5 * usual
    assert with_it[-1] > 0.9 * usual
    assert without[-1] < 0.5 * usual
