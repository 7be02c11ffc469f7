"""Networks that stall for as long as a test wants."""

import threading

from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import ScriptedPolicy

_LIMIT_S = 20.0


class Gated(ScriptedPolicy):
    """Folds and acts while its gate is open, and otherwise stalls until it is."""

    def __init__(self, **adaptation):
        super().__init__(Adaptation(explore_episodes=1, episodes=4, horizon=5, **adaptation))
        object.__setattr__(self, "gate", threading.Event())
        self.gate.set()

    def fold(self, belief, transitions):
        assert self.gate.wait(_LIMIT_S)
        return super().fold(belief, transitions)

    def explore(self, observation, belief, noise):
        assert self.gate.wait(_LIMIT_S)
        return super().explore(observation, belief, noise)

    def execute(self, observation, latent, noise):
        assert self.gate.wait(_LIMIT_S)
        return super().execute(observation, latent, noise)
