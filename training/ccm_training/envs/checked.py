"""A user's family whose answers are checked when they come, so that none goes wrong far away from where it was made."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.errors import FamilyError
from ccm_training.envs.failing import faulty
from ccm_training.envs.family import Family, Picture, Split, Step, Table
from ccm_training.envs.finite import check_finite

_ARRAY = np.empty(0)


def checked(family: Any, name: str, values: Mapping[str, Any]) -> Family:
    """The same family under this name; what its methods raise, or give and should not, is told as its fault.

    Args:
        family: The user's.
        name: What it is told under.
        values: Its attributes, which are asked for once.
    """
    return cast("Family", _CheckedFamily(family, name, values))


def check_specs(family: Family) -> None:
    """Refuse a family whose episodes or actions nobody could take (FamilyError)."""
    if family.horizon < 1:
        raise FamilyError(f"{family.name}: horizon is {family.horizon}; expected at least 1 step")
    if family.explore_episodes < 0:
        raise FamilyError(f"{family.name}: explore_episodes is {family.explore_episodes}; expected 0 or more")
    low, high = family.action.low_array, family.action.high_array
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise FamilyError(
            f"{family.name}: actions lie in {low.tolist()} to {high.tolist()}; expected a finite low < high for every "
            "entry"
        )


def check_table(what: str, value: Any, shape: tuple[int, ...], kind: str = "float32", *, like: Any = _ARRAY) -> None:
    """Refuse what is not the table that it should be.

    Args:
        what: Whose it is and what, for the message.
        value: What came.
        shape: What its shape must be.
        kind: What it must hold.
        like: An array or tensor, for it must be one too, and lie on the same device.

    Raises:
        FamilyError: It is something else.
    """
    of_numpy = isinstance(like, np.ndarray)
    if (
        not isinstance(value, np.ndarray if of_numpy else type(like))
        or tuple(value.shape) != shape
        or str(value.dtype).removeprefix("torch.") != kind
        or not (of_numpy or value.device == like.device)
    ):
        table, where = ("an array", "") if of_numpy else ("a tensor", f" on {like.device}")
        raise FamilyError(f"{what} is {_shown(value)}; expected {table} {list(shape)} of {kind}{where}")


def _shown(value: Any) -> str:
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return type(value).__name__
    where = "" if isinstance(value, np.ndarray) else f" on {getattr(value, 'device', 'no device')}"
    return f"{type(value).__name__} {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}{where}"


class _CheckedFamily:
    def __init__(self, family: Any, name: str, values: Mapping[str, Any]) -> None:
        self._family, self.name = family, name
        vars(self).update(values)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._family, attribute)

    def sample_tasks(self, split: Split, num: int, seed: int) -> Table:
        with faulty(f"{self.name}: sample_tasks({str(split)!r}, {num}, {seed})"):
            tasks = self._family.sample_tasks(split, num, seed)
        return self._numbers(f"what sample_tasks({str(split)!r}, {num}, {seed}) gave", tasks, (num, self.task.size))

    def task_features(self, tasks: Table) -> Table:
        with faulty(f"{self.name}: task_features()"):
            features = self._family.task_features(tasks)
        width = features.shape[-1] if isinstance(features, np.ndarray) and features.ndim == 2 else 1
        return self._numbers("what task_features() gave", features, (len(tasks), max(width, 1)))

    def ceiling(self, tasks: Table) -> NDArray[np.float32] | None:
        with faulty(f"{self.name}: ceiling()"):
            ceiling = self._family.ceiling(tasks)
        return None if ceiling is None else self._numbers("what ceiling() gave", ceiling, (len(tasks),))

    def simulate(self, tasks: Any, seed: Any = 0) -> "_CheckedEnv":
        return _CheckedEnv(self._family.simulate(tasks, seed), self, tasks, "simulate")

    def make(self, tasks: Any, seed: Any = 0) -> "_CheckedEnv":
        return _CheckedEnv(self._family.make(tasks, seed), self, tasks, "make")

    def _numbers(self, what: str, value: Any, shape: tuple[int, ...]) -> Table:
        check_table(f"{self.name}: {what}", value, shape)
        if not np.isfinite(value).all():
            row = np.argwhere(~np.isfinite(value))[0][0]
            raise FamilyError(f"{self.name}: {what} has {value[row].tolist()} in row {row}; expected finite numbers")
        return np.array(value, np.float32)  # in memory that can be written to, in order


class _CheckedEnv:
    def __init__(self, env: Any, family: _CheckedFamily, tasks: Any, method: str) -> None:
        self._env, self._name, self._tasks, self.num_envs = env, family.name, tasks, len(tasks)
        self._size = family.observation.size
        found = getattr(env, "num_envs", None)
        if found != self.num_envs:
            raise FamilyError(
                f"{self._name}: what {method}() gave is {type(env).__name__} with num_envs {found}; expected "
                f"simulations of {self.num_envs} tasks"
            )
        self._on_cpu = str(getattr(tasks, "device", "cpu")) == "cpu"  # elsewhere to look would be to wait
        self._over, self._num_steps = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, int)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._env, attribute)

    def reset(self, mask: Any = None) -> Any:
        observation = self._env.reset() if mask is None else self._env.reset(mask)
        self._table("what reset() gave", observation, self._size)
        if self._on_cpu:
            begun = np.s_[:] if mask is None else np.asarray(mask)
            self._over[begun], self._num_steps[begun] = False, 0
            self._finite(observation, None)
        return observation

    def step(self, action: Any) -> Any:
        after: Any = self._env.step(action)
        if getattr(after, "_fields", None) != Step._fields:
            got = f"a tuple of {len(after)}" if isinstance(after, tuple) else type(after).__name__
            raise FamilyError(
                f"{self._name}: what step() gave is {got}; expected ccm_training.envs.family.Step, of observation, "
                "reward and terminated"
            )
        self._table("the observation of step()", after.observation, self._size)
        self._table("the reward of step()", after.reward)
        self._table("the terminated of step()", after.terminated, kind="bool")
        if self._on_cpu:
            self._num_steps += ~self._over
            self._finite(after.observation, after.reward)
            self._over |= np.asarray(after.terminated)
        return after

    def retask(self, tasks: Any) -> None:
        self._env.retask(tasks)
        self._tasks = tasks

    def frame(self, index: int) -> Picture:
        picture: Picture = self._env.frame(index)
        if not isinstance(picture, np.ndarray) or picture.shape[2:] != (3,) or picture.dtype != np.uint8:
            raise FamilyError(
                f"{self._name}: what is drawn is {_shown(picture)}; expected an array [height, width, 3] of uint8"
            )
        return picture

    def _table(self, what: str, value: Any, *columns: int, kind: str = "float32") -> None:
        check_table(f"{self._name}: {what}", value, (self.num_envs, *columns), kind, like=self._tasks)

    def _finite(self, observation: Any, reward: Any) -> None:
        """Refuse numbers that are not finite in episodes that are under way: what comes after an end means nothing."""
        seen, paid = np.asarray(observation), None if reward is None else np.asarray(reward)
        if np.isfinite(seen).all() and (paid is None or np.isfinite(paid).all()):
            return
        alive = ~self._over
        tasks, steps = np.asarray(self._tasks)[alive], int(self._num_steps[alive].max(initial=0))
        check_finite(self._name, tasks, steps, observation=seen[alive], reward=None if paid is None else paid[alive])
