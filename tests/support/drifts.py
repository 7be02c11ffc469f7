"""A family of tiny Gymnasium environments: a point on a line that a wind blows along; flaws of it break a law each."""

import gymnasium
import numpy as np
from gymnasium import spaces

from ccm_runtime.specs import BoxSpec
from ccm_training.envs.gymnasium_envs import GymnasiumEnvs
from ccm_training.envs.gymnasium_family import GymnasiumFamily


class Drift(gymnasium.Env):
    """`x += 0.1 (action + wind)` from a random start; the reward is the distance to 1, negated."""

    observation_space = spaces.Box(-20.0, 20.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    render_mode = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.wind = float((options or {}).get("task", [0.0])[0])
        self.x, self.num_steps = float(self.np_random.uniform(-0.1, 0.1)), 0
        return self.seen(), {}

    def step(self, action):
        self.x += 0.1 * (float(action[0]) + self.wind)
        self.num_steps += 1
        return self.seen(), self.paid(), self.terminated(), self.truncated(), {}

    def seen(self):
        return np.array([self.x], np.float32)

    def paid(self):
        return -abs(self.x - 1.0)

    def terminated(self):
        return False

    def truncated(self):
        return False


class Drifts(GymnasiumFamily):
    task = BoxSpec(name="task", labels=("wind",), units=("m/s",), low=(-1.0,), high=(1.0,))
    horizon = 10
    env = Drift

    def make_env(self):
        return self.env()

    def draw_tasks(self, rng, num, split):
        return rng.uniform(-1.0, 1.0, (num, 1))


def with_env(**methods):
    """The family with another environment, whose methods these are."""
    return type("Flawed", (Drifts,), {"env": type("FlawedEnv", (Drift,), methods)})


class NegativeExploring(Drifts):
    explore_episodes = -1


class Stuttering(Drift):
    """Never forgets that an episode ended."""

    ended = False

    def terminated(self):
        over, self.ended = self.ended, self.ended or self.num_steps == 10
        return over


class Unseeded(Drift):
    chance = np.random.default_rng(0)

    def seen(self):
        return np.array([self.x + self.chance.uniform(-0.01, 0.01)], np.float32)


class Crowded(Drift):
    """Every point pushes all others."""

    crowd: list[int] = []  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        self.crowd.clear()
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.crowd.append(1)
        self.x += 1e-3 * len(self.crowd)
        return super().step(action)


class Deaf(GymnasiumEnvs):
    def reset(self, mask=None):
        return super().reset()


class DeafToMasks(Drifts):
    def simulate(self, tasks, seed=0):
        return Deaf(self, tasks, seed)


class OneTable(Drifts):
    def draw_tasks(self, rng, num, split):
        return np.linspace(-1.0, 1.0, num)[:, None]


class OtherInTorch(Drifts):
    def make(self, tasks, seed=0):
        return super().make(tasks * 0.5, seed)


class LowCeiling(Drifts):
    def ceiling(self, tasks):
        return np.full(len(tasks), -100.0, np.float32)


FLAWED = {
    "sizes, types and bounds are those of the specs": NegativeExploring,
    "observations stay within their bounds": with_env(observation_space=spaces.Box(-0.11, 0.11, (1,), np.float32)),
    "observations and rewards stay finite": with_env(paid=lambda self: float("nan") if self.num_steps > 3 else 0.0),
    "an episode lasts to the horizon or terminates, and a reset begins another": type(
        "Flawed", (Drifts,), {"env": Stuttering}
    ),
    "equal seeds give equal numbers": type("Flawed", (Drifts,), {"env": Unseeded}),
    "a simulation does not depend on those beside it": type("Flawed", (Drifts,), {"env": Crowded}),
    "reset(mask) touches the masked simulations alone": DeafToMasks,
    "the task changes the dynamics or the reward": with_env(wind=property(lambda _: 0.0, lambda *_: None)),
    "train, test and ood tasks are disjoint, and functions of the seed": OneTable,
    "numpy and torch simulations agree": OtherInTorch,
    "no random episode passes the ceiling": LowCeiling,
}
"""By law, a family that breaks it."""
