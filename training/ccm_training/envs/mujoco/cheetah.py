"""Half-cheetah families: target velocities, body masses, and both.

Sources: CCM's released `half_cheetah_vel`, `half_cheetah_mass` and `half_cheetah_damping` (which varies masses; it is
what the paper calls cheetah-mass), with ranges after the paper's text and CaDM. Deviations: the observation has no
absolute position (the released one appends the torso's, x among it); mass scales with inertia; test tasks are new
ones, not a part of the training tasks.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ccm_training.envs.family import Table
from ccm_training.envs.mujoco.family import MujocoFamily, Parameter, control_cost, forward_velocity, scale_masses
from ccm_training.envs.mujoco.robots import HALF_CHEETAH
from ccm_training.envs.mujoco.simulation import State

if TYPE_CHECKING:
    from mujoco.batch import Batch

SPARSE_WITHIN = 0.5
"""How near the target velocity a sparse reward pays, in m/s."""


def sparse_velocity_reward(velocity: Any, target: Any, xp: Any) -> Any:
    """`2 - e` where `e = |velocity - target|` is at most 0.5 m/s, else 0; `[n]`."""
    error = xp.abs(velocity - target)
    return xp.where(error <= SPARSE_WITHIN, 2.0 - error, 0.0)


@dataclass(frozen=True)
class VelocityFamily(MujocoFamily):
    """Run at a target velocity, the task's first parameter.

    Attributes:
        sparse: Pay `2 - e` within 0.5 m/s of the target and nothing beyond; otherwise `-e` everywhere.
        control_weight: Of the sum of squared controls, which is taken off.
    """

    sparse: bool = True
    control_weight: float = 0.05

    def reward(self, before: State, after: State, action: Any, tasks: Any, xp: Any) -> Any:
        """Reward of each transition, `[n]`."""
        velocity = forward_velocity(before, after, self.robot)
        target = tasks[:, 0]
        paid = sparse_velocity_reward(velocity, target, xp) if self.sparse else -xp.abs(velocity - target)
        return paid - self.control_weight * control_cost(action)


@dataclass(frozen=True)
class HeavyVelocityFamily(VelocityFamily):
    """Run at a target velocity with a body whose mass is scaled by the task's second parameter."""

    def change(self, batch: "Batch", tasks: Table) -> None:
        """Scale all bodies."""
        scale_masses(batch, dict.fromkeys(range(1, self.robot.model.nbody), tasks[:, 1]))


@dataclass(frozen=True)
class MassFamily(MujocoFamily):
    """Run forward, as fast as it goes, with a body whose mass is scaled by the task: velocity - 0.1 |control|^2."""

    def reward(self, before: State, after: State, action: Any, tasks: Any, xp: Any) -> Any:
        """Reward of each transition, `[n]`."""
        del tasks, xp
        return forward_velocity(before, after, self.robot) - 0.1 * control_cost(action)

    def change(self, batch: "Batch", tasks: Table) -> None:
        """Scale all bodies."""
        scale_masses(batch, dict.fromkeys(range(1, self.robot.model.nbody), tasks[:, 0]))


_FAR_MASSES = ((0.2, 0.5), (1.5, 1.8))

CHEETAH_FAMILIES = (
    HeavyVelocityFamily(
        "cheetah-sparse",
        HALF_CHEETAH,
        (
            Parameter("target velocity", "m/s", train=((0.0, 3.0),), ood=((3.0, 3.5),)),
            Parameter("mass factor", "1", train=((0.2, 1.8),)),
        ),
        horizon=64,
        explore_episodes=2,
        ceiling_of_a_step=2.0,
    ),
    MassFamily(
        "cheetah-mass",
        HALF_CHEETAH,
        (Parameter("mass factor", "1", train=((0.75, 1.25),), ood=_FAR_MASSES),),
        horizon=200,
        explore_episodes=1,
    ),
    MassFamily(
        "cheetah-mass-ood",
        HALF_CHEETAH,
        (Parameter("mass factor", "1", train=((0.75, 1.25),), test=_FAR_MASSES, ood=_FAR_MASSES),),
        horizon=200,
        explore_episodes=1,
    ),
    VelocityFamily(
        "cheetah-vel",
        HALF_CHEETAH,
        (Parameter("target velocity", "m/s", train=((0.0, 3.0),), ood=((3.0, 3.5),)),),
        horizon=200,
        explore_episodes=1,
        sparse=False,
    ),
    VelocityFamily(
        "cheetah-vel-ood",
        HALF_CHEETAH,
        (Parameter("target velocity", "m/s", train=((0.0, 2.5),), test=((2.5, 3.0),), ood=((2.5, 3.0),)),),
        horizon=200,
        explore_episodes=1,
        sparse=False,
    ),
)
