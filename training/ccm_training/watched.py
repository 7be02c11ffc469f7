"""A run's family while it trains: its simulations end when the run is to stop, and fail or hang in one clear way."""

from typing import Any, cast

from torch import Tensor

from ccm_training.call_watch import CallWatch
from ccm_training.envs.family import BatchedEnv, CapturableEnv, Family, Picture, Step, Table
from ccm_training.stopping import Stop


def watched(family: Family, stop: Stop, watch: CallWatch) -> Family:
    """The same family, watched: its simulations look at `stop` before every step, and at `watch` during it."""
    return cast("Family", _WatchedFamily(family, stop, watch))


class _WatchedFamily:
    """A family whose simulations are watched; everything else is the family's own."""

    def __init__(self, family: Family, stop: Stop, watch: CallWatch) -> None:
        self._family, self._stop, self._watch = family, stop, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def simulate(self, tasks: Table, seed: Any = 0) -> Any:
        with self._watch.call(self._family.name):
            env = self._family.simulate(tasks, seed)
        return _WatchedEnv(env, self._family.name, self._stop, self._watch)

    def make(self, tasks: Tensor, seed: Any = 0) -> BatchedEnv:
        with self._watch.call(self._family.name):
            env = self._family.make(tasks, seed)
        return _WatchedEnv(env, self._family.name, self._stop, self._watch)


class _WatchedEnv:
    """Watched simulations."""

    def __init__(self, env: BatchedEnv, family: str, stop: Stop, watch: CallWatch) -> None:
        self._env, self._family, self._stop, self._watch = env, family, stop, watch

    @property
    def num_envs(self) -> int:
        return self._env.num_envs

    def reset(self, mask: Tensor | None = None) -> Tensor:
        self._stop.check()
        with self._watch.call(self._family):
            return self._env.reset(mask)

    def step(self, action: Tensor) -> Step:
        self._stop.check()
        with self._watch.call(self._family):
            return self._env.step(action)

    def retask(self, tasks: Tensor) -> None:
        self._stop.check()
        with self._watch.call(self._family):
            cast("CapturableEnv", self._env).retask(tasks)

    def frame(self, index: int) -> Picture:
        return self._env.frame(index)
