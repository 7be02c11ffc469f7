"""A policy that wants everything that an actuator must not do, and a count of what of it got past the guard."""

import numpy as np

from ccm_runtime.adapt import Adapter
from ccm_runtime.manifest import Adaptation, SafetyLimits
from ccm_runtime.messages import BeginEpisode, Intervention, Transition
from ccm_runtime.specs import BoxSpec
from ccm_runtime.testing import ScriptedPolicy

SIZE = 3
NUM_TRIALS = 64
FALLBACKS = ("hold", "zero", "last-safe")


class Hostile(ScriptedPolicy):
    """Proposes whatever is worst: not a number, infinite, far out of bounds, from end to end, or by chance fine."""

    def __init__(self, rng, spec):
        super().__init__(Adaptation(explore_episodes=1, episodes=4, horizon=50), SIZE)
        object.__setattr__(self, "rng", rng)
        object.__setattr__(self, "spec", spec)

    @property
    def action(self):
        """The actuators."""
        return self.spec

    def explore(self, observation, belief, noise):
        """Something new each time."""
        rng, shape = self.rng, (len(observation), SIZE)
        worst = [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, 0.0, *self.spec.low_array, *self.spec.high_array]
        picked = np.where(rng.random(shape) < 0.5, rng.choice(worst, shape), rng.normal(0, 1, shape))
        wild = picked * np.where(rng.random(shape) < 0.3, 10.0 ** rng.integers(-3, 9, shape), 1.0)
        tame = rng.random((len(observation), 1)) < 0.4
        with np.errstate(over="ignore"):
            return np.where(tame, rng.uniform(-0.1, 0.1, shape), wild).astype(np.float32)

    def execute(self, observation, latent, noise):
        """The same."""
        return self.explore(observation, None, noise)


def actuators(rng):
    """Bounds, some of them missing, and the fastest change that is allowed, for one model."""
    low, high = -rng.uniform(0, 5, SIZE), rng.uniform(0, 5, SIZE)
    spec = BoxSpec(
        name="action",
        labels=("a", "b", "c"),
        units=("1",) * SIZE,
        low=tuple(None if rng.random() < 0.2 else float(np.float32(bound)) for bound in low),
        high=tuple(None if rng.random() < 0.2 else float(np.float32(bound)) for bound in high),
    )
    rate = None if rng.random() < 0.2 else tuple(float(np.float32(r)) for r in 10.0 ** rng.uniform(-3, 1, SIZE))
    return spec, SafetyLimits(max_rate=rate, fallback=str(rng.choice(FALLBACKS)))


def violations(action, before, spec, safety):
    """What a motor would say of a command `[act]` after the one before it (`None`: it stood still): words."""
    wide = action.astype(float)
    found = [] if np.isfinite(wide).all() else ["not finite"]
    if (wide < spec.low_array).any() or (wide > spec.high_array).any():
        found.append("out of bounds")
    if before is not None and safety.max_rate is not None:
        rounding = 1e-6 * np.maximum(np.abs(wide), np.abs(before))
        if (np.abs(wide - before) > np.array(safety.max_rate) + rounding).any():
            found.append("too fast")
    return found


def campaign(num_actions, seed, guard=None):
    """Let hostile models act; the counts. `guard` stands in for ours, to see that this finds what gets past."""
    rng = np.random.default_rng(seed)
    found, interventions, told = [], dict.fromkeys(Intervention, 0), 0
    while told < num_actions:
        spec, safety = actuators(rng)
        adapter = Adapter.of(Hostile(rng, spec), safety)
        adapter = adapter if guard is None else Adapter(adapter.policy, guard(adapter.guard))
        memories = [adapter.start(seed=index) for index in range(NUM_TRIALS)]
        before = [None] * NUM_TRIALS
        for step in range(40):
            observed = rng.normal(0, 1, (NUM_TRIALS, SIZE)).astype(np.float32)
            events = [BeginEpisode(row) if step == 0 else Transition(row, 0.0) for row in observed]
            proposals = adapter.propose(memories, events)
            late = [Intervention.LATE if rng.random() < 0.1 else None for _ in proposals]
            after = [adapter.conclude(p, unusable=reason) for p, reason in zip(proposals, late, strict=True)]
            for row, (_, reaction) in enumerate(after):
                found += violations(reaction.action, before[row], spec, safety)
                for kind in reaction.interventions:
                    interventions[kind] += 1
                before[row] = reaction.action.astype(float)
            memories = [memory for memory, _ in after]
            told += NUM_TRIALS
    return {
        "actions": told,
        "interventions": {kind.value: count for kind, count in interventions.items() if count},
        "violations": sorted(set(found)),
        "num_violations": len(found),
    }
