"""Inputs to try graphs on: made up, recorded and extreme. No torch here, so that `ccm verify` needs none."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ccm_runtime.belief import Array, Transitions
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY
from ccm_runtime.policy import Policy

Kind = Literal["random", "recorded", "extreme"]
Tensors = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Probe:
    """Inputs of all three graphs.

    Attributes:
        kind: Where they come from.
        observation: `[n, obs]`, as wide as the graphs read it.
        belief: `[n, belief]`.
        latent: `[n, latent]`.
        noise: `[n, act]`, standard normal.
        transitions: `[n, t, ...]`.
    """

    kind: Kind
    observation: Array
    belief: Array
    latent: Array
    noise: Array
    transitions: Transitions


def input_size(policy: Policy) -> int:
    """Length of the graphs' observations."""
    return policy.observation.size + int(policy.adaptation.observe_reward)


def initial_beliefs(policy: Policy, num: int) -> Array:
    """Beliefs before any transition, `[num, belief]`."""
    return np.tile(np.array(policy.belief.initial, np.float32), (num, 1))


def made_up_transitions(policy: Policy, shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Transitions:
    """Normal observations and rewards of spread `scale`, actions within their bounds; a fifth of it is padding.

    Args:
        policy: Whose sizes and bounds.
        shape: `(n, t)`.
        scale: Spread; 0 gives zeros.
        rng: Source of randomness.
    """
    obs = input_size(policy)
    low = np.maximum(policy.action.low_array, -1.0)
    high = np.minimum(policy.action.high_array, 1.0)
    return Transitions(
        observation=_normal(rng, (*shape, obs), scale),
        action=rng.uniform(low, high, (*shape, policy.action.size)).astype(np.float32),
        reward=_normal(rng, (*shape, 1), scale),
        next_observation=_normal(rng, (*shape, obs), scale),
        valid=(rng.random((*shape, 1)) < 0.8).astype(np.float32),
    )


def made_up(
    policy: Policy, kind: Kind, *, scale: float, rng: np.random.Generator, num: int = 64, steps: int = 5
) -> Probe:
    """A probe of `num` rows and chunks of `steps`, with beliefs that made-up transitions led to.

    Args:
        policy: Whose inputs; its encoder makes the beliefs.
        kind: What to call it.
        scale: Spread of observations, rewards and latents.
        rng: Source of randomness.
        num: Rows.
        steps: Transitions of a chunk.
    """
    folded = policy.fold(initial_beliefs(policy, num), made_up_transitions(policy, (num, 4 * steps), scale, rng))
    drawn = _normal(rng, folded.latent_mean.shape, 1.0)
    return Probe(
        kind=kind,
        observation=_normal(rng, (num, input_size(policy)), scale),
        belief=folded.belief,
        latent=folded.latent_mean + folded.latent_std * drawn,
        noise=_normal(rng, (num, policy.action.size), 1.0),
        transitions=made_up_transitions(policy, (num, steps), scale, rng),
    )


def answer(policy: Policy, probe: Probe) -> dict[str, Tensors]:
    """What every graph answers, by graph and output."""
    folded = policy.fold(probe.belief, probe.transitions)
    return {
        EXPLORATION_POLICY: {"action": policy.explore(probe.observation, probe.belief, probe.noise)},
        CONTEXT_ENCODER: {
            "next_belief": folded.belief,
            "latent_mean": folded.latent_mean,
            "latent_std": folded.latent_std,
        },
        EXECUTION_POLICY: {"action": policy.execute(probe.observation, probe.latent, probe.noise)},
    }


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    return (scale * rng.standard_normal(shape)).astype(np.float32)
