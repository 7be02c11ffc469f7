"""A run's family while it trains: its simulations end when the run is to stop, and fail in one clear way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor

from ccm_runtime.errors import CcmError, SimulationError
from ccm_training.envs.family import BatchedEnv, Family, Picture, Step, Table
from ccm_training.stopping import Stop, StopAskedError


def watched(family: Family, stop: Stop) -> Family:
    """The same family, watched."""
    return cast("Family", _WatchedFamily(family, stop))


class _WatchedFamily:
    """A family whose simulations are watched; everything else is the family's own."""

    def __init__(self, family: Family, stop: Stop) -> None:
        self._family, self._stop = family, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def simulate(self, tasks: Table, seed: Any = 0) -> Any:
        with _clear_failure(self._family.name):
            return _WatchedEnv(self._family.simulate(tasks, seed), self._family.name, self._stop)

    def make(self, tasks: Tensor, seed: Any = 0) -> BatchedEnv:
        with _clear_failure(self._family.name):
            return _WatchedEnv(self._family.make(tasks, seed), self._family.name, self._stop)


class _WatchedEnv:
    """Simulations that look at `stop` before every step."""

    def __init__(self, env: BatchedEnv, family: str, stop: Stop) -> None:
        self._env, self._family, self._stop = env, family, stop

    @property
    def num_envs(self) -> int:
        return self._env.num_envs

    def reset(self, mask: Tensor | None = None) -> Tensor:
        self._stop.check()
        with _clear_failure(self._family):
            return self._env.reset(mask)

    def step(self, action: Tensor) -> Step:
        self._stop.check()
        with _clear_failure(self._family):
            return self._env.step(action)

    def frame(self, index: int) -> Picture:
        return self._env.frame(index)


@contextmanager
def _clear_failure(family: str) -> Iterator[None]:
    """Whatever a simulation raises, as one error that says whose fault it is.

    Raises:
        SimulationError: The simulation raised something of its own.
    """
    try:
        yield
    except (CcmError, StopAskedError):
        raise
    except Exception as error:
        raise SimulationError(
            f"the simulation of {family} failed: {type(error).__name__}: {error}; the last checkpoint is from before. "
            "Mend the family, then go on with --resume"
        ) from error
