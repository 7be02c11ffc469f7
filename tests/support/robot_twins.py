"""Each robot beside its namesake in Gymnasium, and laws without tasks, for tests that look at physics alone."""

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from ccm_training.envs.mujoco.robots import ANT, HALF_CHEETAH, HUMANOID, WALKER, Robot
from ccm_training.envs.mujoco.simulation import MujocoEnv

TWINS = {HALF_CHEETAH.name: HalfCheetahEnv, WALKER.name: Walker2dEnv, ANT.name: AntEnv, HUMANOID.name: HumanoidEnv}
ROBOTS = {robot.name: robot for robot in (HALF_CHEETAH, WALKER, ANT, HUMANOID)}


@dataclass(frozen=True)
class Bare:
    """Laws that pay nothing and end nothing, for simulations whose models are edited as a test likes."""

    robot: Robot
    edit: Callable
    name: str = "bare"

    def reward(self, before, after, action, tasks, xp):
        return xp.zeros(len(action))

    def terminated(self, after, xp):
        return xp.zeros(len(after.position), dtype=bool)

    def change(self, batch, tasks):
        self.edit(batch)


def untouched(batch) -> None:
    """Leave the model as it is."""


def simulations(robot: Robot, num: int, edit=untouched, num_threads: int = 1) -> MujocoEnv:
    """Simulations of a robot whose shared model `edit` may change, given the batch."""
    return MujocoEnv(Bare(robot, edit), np.zeros((num, 1), np.float32), 0, num_threads)


def states_of(envs) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities of Gymnasium's environments, `[n, nq]` and `[n, nv]`."""
    return tuple(np.stack([getattr(env.data, field) for env in envs]) for field in ("qpos", "qvel"))


def put(env, position, velocity) -> None:
    """Put one of Gymnasium's environments into a state, at rest in all else."""
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(position, velocity)
