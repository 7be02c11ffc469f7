"""The guard: the last word on every action. Whatever a policy says, what leaves is finite, bounded and slow enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from ccm_runtime.belief import Array
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import Intervention
from ccm_runtime.specs import BoxSpec

# An action may leave its bounds by this much (float32 rounding inside a graph) without it being called an intervention;
# it is clipped all the same.
_ROUNDING = 1e-5
_LARGEST = np.finfo(np.float32).max


class Guarded(NamedTuple):
    """An action `[act]` that may be applied, and what had to be mended for it."""

    action: Array
    interventions: tuple[Intervention, ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """Limits of an agent's actions.

    Attributes:
        low: Lower bounds, `[act]`; where there is none, the least float32.
        high: Upper bounds, `[act]`; where there is none, the largest float32. So what is within is finite.
        max_rate: Largest change of an entry from one command to the next, `[act]`; `None`: any.
        fallback: `hold` the previous command, `zero`, or the `last-safe` command.
    """

    low: Array
    high: Array
    max_rate: Array | None
    fallback: str

    @classmethod
    def of(cls, action: BoxSpec, safety: SafetyLimits) -> Self:
        """Return the guard of an action spec and a bundle's limits."""
        low, high = (np.clip(bounds, -_LARGEST, _LARGEST) for bounds in (action.low_array, action.high_array))
        rate = None if safety.max_rate is None else np.asarray(safety.max_rate, np.float32)
        return cls(low, high, rate, safety.fallback)

    def check(
        self,
        proposed: Array,
        previous: Array | None,
        last_safe: Array | None,
        *,
        unusable: Intervention | None = None,
    ) -> Guarded:
        """Return what may be applied in place of `proposed`.

        Args:
            proposed: The policy's action, `[act]`.
            previous: The previous command of this episode, `[act]`; `None` at its beginning: then no rate is limited.
            last_safe: The last command that needed no mending, `[act]`, or `None`.
            unusable: Why the fallback is wanted, whatever is proposed: it is LATE, or the session is SAFE.
        """
        interventions = []
        if unusable is not None:
            interventions.append(unusable)
        elif not np.isfinite(proposed).all():
            interventions.append(Intervention.NOT_FINITE)
        wanted = self.fall_back(previous, last_safe) if interventions else proposed
        action = np.clip(wanted, self.low, self.high)
        if (np.abs(action - wanted) > _ROUNDING * np.maximum(1.0, np.abs(action))).any():
            interventions.append(Intervention.BOUND)
        if previous is not None and self.max_rate is not None:
            start = np.clip(previous, self.low, self.high)
            slowed = np.clip(action, start - self.max_rate, start + self.max_rate)
            if not np.array_equal(slowed, action):
                interventions.append(Intervention.RATE)
                action = np.clip(slowed, self.low, self.high)
        return Guarded(action.astype(np.float32, copy=False), tuple(interventions))

    def check_rows(
        self, proposed: Array, previous: Sequence[Array | None], last_safe: Sequence[Array | None]
    ) -> list[Guarded]:
        """Return what `check` says of each of `n` actions in time, `[n, act]`; those that need no mending are cheap."""
        low, high = self.low, self.high
        if self.max_rate is not None:
            rows = [action if before is None else before for action, before in zip(proposed, previous, strict=True)]
            start = np.clip(np.array(rows), low, high)
            low, high = np.maximum(low, start - self.max_rate), np.minimum(high, start + self.max_rate)
        within = (proposed >= low) & (proposed <= high)  # what is not a number is not within
        if np.count_nonzero(within) == within.size:
            return [Guarded(action, ()) for action in proposed]
        fine: list[bool] = np.logical_and.reduce(within, axis=1).tolist()
        return [
            Guarded(action, ()) if kept else self.check(action, before, safe)
            for action, kept, before, safe in zip(proposed, fine, previous, last_safe, strict=True)
        ]

    def fall_back(self, previous: Array | None, last_safe: Array | None) -> Array:
        """Return the fallback, `[act]`: zeros where there is nothing to hold or to go back to."""
        choice = {"hold": previous, "last-safe": last_safe, "zero": None}[self.fallback]
        return np.zeros_like(self.low) if choice is None else choice
