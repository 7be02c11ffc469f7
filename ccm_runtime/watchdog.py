"""Whether an action may still be applied. The client's own watch: it needs no server, and no clock that anyone sets."""

import math
import time
from collections.abc import Callable
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from ccm_runtime.belief import Array
from ccm_runtime.errors import ConfigError, SpecError
from ccm_runtime.specs import BoxSpec


class Watchdog:
    """Knows the last action, how long it may be applied, and what to do after that.

    Args:
        action: Spec of the actions.
        safe_action: What to do when no action may be applied, `[act]`; default: zeros, or the nearest bounds to them.
        clock: Seconds that never jump.

    Raises:
        SpecError: The safe action has another size, is not finite, or is out of bounds.
        ConfigError: The spec is none, or the clock cannot be called.
    """

    def __init__(
        self, action: BoxSpec, safe_action: ArrayLike | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not isinstance(action, BoxSpec):
            raise ConfigError(f"action: expected a BoxSpec, as session.agent.action is; got {type(action).__name__}")
        if not callable(clock):
            raise ConfigError(f"clock: expected a function such as time.monotonic, got {type(clock).__name__}")
        rest = np.clip(np.zeros(action.size, np.float32), action.low_array, action.high_array)
        self.safe_action: Array = (
            rest if safe_action is None else action.validate_array(safe_action, bounded=True).copy()
        )
        self._clock = clock
        self._spec = action
        self._action = self.safe_action
        self._expires_s = clock()

    def renew(self, action: ArrayLike, valid_for_ms: float) -> Array:
        """Take in an action that has just arrived; it may be applied for so long. Return it.

        Raises:
            SpecError: The action has another size or is not finite, or the time is no finite number from 0 up.
        """
        renewed = self._spec.validate_array(action)
        if not isinstance(valid_for_ms, Real) or not 0 <= float(valid_for_ms) < math.inf:
            raise SpecError(f"valid_for_ms: expected a number of milliseconds from 0 up, got {valid_for_ms!r}")
        self._action = renewed.copy()
        self._expires_s = self._clock() + float(valid_for_ms) / 1000
        return renewed

    @property
    def left_s(self) -> float:
        """How long the last action may still be applied; 0: no longer."""
        return max(0.0, self._expires_s - self._clock())

    @property
    def action(self) -> Array:
        """What may be applied now, `[act]`: the last action while it is valid, then the safe one; a copy."""
        return (self._action if self.left_s > 0.0 else self.safe_action).copy()
