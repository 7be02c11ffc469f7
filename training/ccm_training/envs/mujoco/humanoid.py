"""The humanoid that runs in a direction and must not fall.

Source: CCM's (and PEARL's) released `humanoid-dir`: 0.25 of the centre of mass's way along the direction, over the
physics' time step (not the environment's, so that it is 1.25 times the speed), less 0.1 |control|^2, plus 5 for being
up. Deviations: the observation is the robot's position and velocity alone (45 numbers; the released one has 376, with
inertias and contact forces), and there is no contact cost: `mujoco.batch` does not give contact forces as Gymnasium
computes them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ccm_training.envs.family import Table
from ccm_training.envs.mujoco.family import MujocoFamily, Parameter, control_cost
from ccm_training.envs.mujoco.robots import HUMANOID
from ccm_training.envs.mujoco.simulation import State

UP_M = (1.0, 2.0)
"""Heights of the torso between which it is up."""


@dataclass(frozen=True)
class HumanoidDirection(MujocoFamily):
    """Run in the direction that the task says, an angle; an episode ends in a fall."""

    def task_features(self, tasks: Table) -> Table:
        """The direction as a unit vector, `[n, 2]`."""
        return np.concatenate([np.cos(tasks), np.sin(tasks)], -1)

    def reward(self, before: State, after: State, action: Any, tasks: Any, xp: Any) -> Any:
        """Reward of each transition, `[n]`."""
        moved = after.centre_of_mass - before.centre_of_mass
        way = moved[:, 0] * xp.cos(tasks[:, 0]) + moved[:, 1] * xp.sin(tasks[:, 0])
        physics_step_s = self.robot.step_s / self.robot.frame_skip
        return 0.25 * way / physics_step_s - 0.1 * control_cost(action) + 5.0

    def terminated(self, after: State, xp: Any) -> Any:
        """Where the torso has left the heights at which it is up, `[n]`."""
        del xp
        height = after.position[:, 2]
        return (height < UP_M[0]) | (height > UP_M[1])


HUMANOID_FAMILIES = (
    HumanoidDirection(
        "humanoid-dir",
        HUMANOID,
        (Parameter("direction", "rad", train=((0.0, 2.0 * np.pi),)),),
        horizon=200,
        explore_episodes=1,
    ),
)
