"""The ant whose legs have different masses.

Sources: the paper names ant-mass and releases no code for it; masses are CaDM's scheme (the front legs' scaled by m,
the hind legs' by 1/m; training in 0.85..1, out of distribution 0.2..0.6). CaDM pays 0.05 a step for staying alive; here
it is 1, as in Gymnasium, which comes nearer to the paper's returns and changes nothing that is learnt, for no episode
ends early. Further deviations: the horizontal position is not observed; mass scales with inertia; training masses are
drawn from the whole interval, not from four values, so that test tasks can be new ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ccm_training.envs.family import Table
from ccm_training.envs.mujoco.family import MujocoFamily, Parameter, control_cost, forward_velocity, scale_masses
from ccm_training.envs.mujoco.robots import ANT
from ccm_training.envs.mujoco.simulation import State

if TYPE_CHECKING:
    from mujoco.batch import Batch


@dataclass(frozen=True)
class AntMass(MujocoFamily):
    """Run along x with legs of different masses: velocity - 0.005 |control|^2 + 1."""

    def reward(self, before: State, after: State, action: Any, tasks: Any, xp: Any) -> Any:
        """Reward of each transition, `[n]`."""
        del tasks, xp
        return forward_velocity(before, after, self.robot) - 0.005 * control_cost(action) + 1.0

    def change(self, batch: "Batch", tasks: Table) -> None:
        """Scale the front legs by m and the hind legs by 1/m."""
        model = self.robot.model
        factors = {}
        for body in range(2, model.nbody):  # 0 is the world, 1 the torso
            front = model.body(body).name.startswith("front")
            factors[body] = tasks[:, 0] if front else 1.0 / tasks[:, 0]
        scale_masses(batch, factors)


ANT_FAMILIES = (
    AntMass(
        "ant-mass",
        ANT,
        (Parameter("front leg mass factor", "1", train=((0.85, 1.0),), ood=((0.2, 0.6),)),),
        horizon=200,
        explore_episodes=1,
    ),
)
