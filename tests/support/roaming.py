"""An agent that finds rewards without having learnt to."""

import numpy as np

from ccm_runtime.testing import ScriptedPolicy

ANGLE = 1.0


class Roaming(ScriptedPolicy):
    """Explores along `ANGLE` (no step ends on the edge of a goal) and executes by its belief."""

    def explore(self, observation, belief, noise):
        heading = np.array([np.cos(ANGLE), np.sin(ANGLE)], np.float32)
        return np.tile(0.0713 * heading, (len(observation), 1)).astype(np.float32)
