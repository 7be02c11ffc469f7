"""An agent that finds rewards without having learnt to, and what examples of clients must get from it."""

import numpy as np

from ccm_runtime.client import Client
from ccm_runtime.drive import drive
from ccm_runtime.testing import ScriptedPolicy
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import SimulatedTask

ANGLE = 1.0


class Roaming(ScriptedPolicy):
    """Explores along `ANGLE` (no step ends on the edge of a goal) and executes by its belief."""

    def explore(self, observation, belief, noise):
        heading = np.array([np.cos(ANGLE), np.sin(ANGLE)], np.float32)
        return np.tile(0.0713 * heading, (len(observation), 1)).astype(np.float32)


def task():
    """The task of every episode of an example's trial."""
    return SimulatedTask(get_family("hard-point-robot-aligned"), [ANGLE, ANGLE])


def our_returns(address, seed):
    """What a client of ours gets in the trial that an example runs."""
    with Client(address) as client, client.open_session(seed=seed) as session:
        return drive(task(), session)
