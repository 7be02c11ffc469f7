"""The runtime's guard over many simulations, each as its own session has it."""

import numpy as np
import torch
from torch import Tensor

from ccm_runtime.belief import Array
from ccm_runtime.guard import Guard


class BatchGuard:
    """The last word on the actions of a batch of trials, on the CPU.

    Args:
        guard: Bounds, rate and fallback.
        num: Simulations.
    """

    def __init__(self, guard: Guard, num: int) -> None:
        self._guard = guard
        self._last_safe: list[Array | None] = [None] * num
        self.restart()

    def restart(self) -> None:
        """Begin an episode: its first action has none before it. What was safe is remembered, as in a session."""
        self._commands: list[Array | None] = [None] * len(self._last_safe)

    def check(self, proposed: Tensor, alive: Tensor) -> Tensor:
        """What may be applied in place of the policy's actions, `[n, act]`.

        Args:
            proposed: The policy's actions, `[n, act]`.
            alive: Above 0 where the episode goes on, `[n, 1]`; where it does not, a session would not be asked.
        """
        guarded = self._guard.check_rows(proposed.numpy(), self._commands, self._last_safe)
        self._commands = [one.action for one in guarded]
        self._last_safe = [
            before if one.interventions or not asked else one.action
            for one, before, asked in zip(guarded, self._last_safe, (alive[:, 0] > 0.0).tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack([one.action for one in guarded]))
