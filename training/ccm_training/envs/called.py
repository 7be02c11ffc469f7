"""A family whose simulations are called in a context: one that blames it for what they raise, or that watches them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

from ccm_training.envs.family import Family, Picture

Context = Callable[[str], AbstractContextManager[None]]
"""Entered around each call of a simulation; it is told the family's name."""


def called(family: Any, name: str, context: Context) -> Family:
    """The same family under this name, whose simulations are made, stepped and drawn in a context."""
    return cast("Family", _CalledFamily(family, name, context))


class _CalledFamily:
    def __init__(self, family: Any, name: str, context: Context) -> None:
        self.name = name
        self._family, self._context = family, context

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._family, attribute)

    def simulate(self, tasks: Any, seed: Any = 0) -> Any:
        with self._context(self.name):
            return _CalledEnv(self._family.simulate(tasks, seed), self.name, self._context)

    def make(self, tasks: Any, seed: Any = 0) -> Any:
        with self._context(self.name):
            return _CalledEnv(self._family.make(tasks, seed), self.name, self._context)


class _CalledEnv:
    def __init__(self, env: Any, family: str, context: Context) -> None:
        self._env, self._family, self._context = env, family, context

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._env, attribute)

    def reset(self, mask: Any = None) -> Any:
        with self._context(self._family):
            return self._env.reset() if mask is None else self._env.reset(mask)

    def step(self, action: Any) -> Any:
        with self._context(self._family):
            return self._env.step(action)

    def retask(self, tasks: Any) -> None:
        with self._context(self._family):
            self._env.retask(tasks)

    def frame(self, index: int) -> Picture:
        with self._context(self._family):
            picture: Picture = self._env.frame(index)
        return picture
