"""What a step runs of a bundle's networks, and nothing else."""

import numpy as np

from ccm_runtime.belief import Transitions
from ccm_runtime.policy import Policy


class Networks:
    """The encoder and the executor on one transition of each of `rows` sessions, made beforehand."""

    def __init__(self, policy: Policy, rows: int) -> None:
        size = policy.observation.size + int(policy.adaptation.observe_reward)
        self._policy = policy
        self._seen = np.zeros((rows, size), np.float32)
        self._noise = np.zeros((rows, policy.action.size), np.float32)
        one = np.ones((rows, 1, 1), np.float32)
        seen = self._seen[:, None]
        self._moved = Transitions(seen, self._noise[:, None], np.zeros_like(one), seen, one)
        self._belief = np.tile(np.asarray(policy.belief.initial, np.float32), (rows, 1))

    def run(self) -> None:
        """Run both."""
        folded = self._policy.fold(self._belief, self._moved)
        self._policy.execute(self._seen, folded.latent_mean, self._noise)
