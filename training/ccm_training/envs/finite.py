"""Simulations must stay finite: one NaN would spread through replay and networks before anybody sees it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.errors import SimulationError


def check_finite(family: str, tasks: Any, step: int, *, observation: Any, reward: Any = None) -> None:
    """Refuse observations or rewards that are not finite.

    Args:
        family: Its name.
        tasks: `[n, params]`.
        step: Step of the episode that gave them; 0 for a reset.
        observation: `[n, obs]`; numpy or torch, as all the tables.
        reward: `[n]`; `None`: a reset, which pays nothing.

    Raises:
        SimulationError: One is not; the message names family, task and step.
    """
    for what, values in (("reward", reward), ("observation", observation)):
        if values is None:
            continue
        table = _numpy(values)
        bad = ~np.isfinite(table).all(tuple(range(1, table.ndim)))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            got = ", ".join(f"{value:g}" for value in table[row].ravel())
            task = ", ".join(f"{value:g}" for value in _numpy(tasks)[row])
            when = f"step {step}" if step else "the reset"
            raise SimulationError(
                f"{family}: expected finite numbers, got {what} [{got}] at {when} of an episode of task [{task}]; "
                "the simulation must stay finite within the bounds of its actions"
            )


def _numpy(values: Any) -> NDArray[np.floating]:
    return np.asarray(values if isinstance(values, np.ndarray) else values.detach().cpu().numpy())
