"""The planar walker at a target velocity, paid near it only; episodes last half a second and do not end in a fall.

Source: CCM's released `nwalker-vel-sparse` (and MetaCURE's walker, its model). Deviations: the walker is that of
Gymnasium's v5, whose left foot no longer slips; test tasks are new ones, not a part of the training tasks.
"""

from ccm_training.envs.mujoco.cheetah import VelocityFamily
from ccm_training.envs.mujoco.family import Parameter
from ccm_training.envs.mujoco.robots import WALKER

WALKER_FAMILIES = (
    VelocityFamily(
        "walker-sparse",
        WALKER,
        (Parameter("target velocity", "m/s", train=((0.0, 2.0),), ood=((2.0, 2.5),)),),
        horizon=64,
        explore_episodes=2,
        ceiling_of_a_step=2.0,
    ),
)
