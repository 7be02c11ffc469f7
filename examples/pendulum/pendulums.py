"""Gymnasium's pendulum, with a gravity, a mass and a length that vary and are not observed."""

import gymnasium
import numpy as np

from ccm_runtime.specs import BoxSpec
from ccm_training.envs.gymnasium_family import Env, GymnasiumFamily, Row, TaskWrapper


def set_task(env: Env, task: Row) -> None:
    """Give the pendulum its gravity, mass and length."""
    pendulum = env.unwrapped
    pendulum.g, pendulum.m, pendulum.l = (float(value) for value in task)


class Pendulums(GymnasiumFamily):
    """Swing it up and hold it there; the reward says how far from that it is."""

    task = BoxSpec(
        name="task",
        labels=("gravity", "mass", "length"),
        units=("m/s^2", "kg", "m"),
        low=(2.0, 0.5, 0.5),
        high=(15.0, 1.5, 1.5),
    )
    observation_labels = ("cosine of the angle", "sine of the angle", "angular velocity")
    observation_units = ("1", "1", "rad/s")
    action_labels = ("torque",)
    action_units = ("N m",)
    horizon = 100
    explore_episodes = 1

    def make_env(self) -> Env:
        """One pendulum, which `set_task` can change."""
        return TaskWrapper(gymnasium.make("Pendulum-v1", render_mode="rgb_array", disable_env_checker=True), set_task)

    def draw_tasks(self, rng: np.random.Generator, num: int, split: str) -> np.ndarray:
        """Any gravity, mass and length within the bounds, in every split."""
        return rng.uniform(self.task.low, self.task.high, (num, self.task.size))
