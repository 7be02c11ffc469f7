"""A trained agent as a policy: in torch for rollouts, and (by `NumpyPolicy`) any runtime policy in their place.

`TorchPolicy` leads the other way: what the runtime would do with an agent that is not exported.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ccm_runtime import policy as runtime
from ccm_runtime.belief import Array, Folded, Transitions
from ccm_runtime.manifest import Adaptation, BeliefSpec
from ccm_training import belief as beliefs
from ccm_training.agent import Agent
from ccm_training.belief import Latent
from ccm_training.envs.family import Family
from ccm_training.replay import Rows
from ccm_training.rollout import BatchPolicy
from ccm_training.stack import Stack


class AgentPolicy:
    """An agent's networks behind the fold interface."""

    def __init__(self, agent: Agent, adaptation: Adaptation, features: Tensor | None = None) -> None:
        self.agent, self.adaptation = agent, adaptation
        self.action_size = len(agent.action_reach)
        self._features = features

    def initial_belief(self, num: int) -> Tensor:
        """No evidence yet: zeros, `[num, 2 * latent]`."""
        return torch.zeros(num, 2 * self.agent.latent, device=self.agent.action_reach.device)

    def explore(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """Explorer's actions, `[n, act]` in environment units."""
        inputs = self.agent.explorer_inputs(observation, belief)
        return self.agent.unscale_action(self.agent.explorer.actor(inputs, noise).action)

    def execute(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Executor's actions, `[n, act]` in environment units; an oracle reads the task instead of the latent."""
        inputs = self.agent.executor_inputs(observation, latent if self._features is None else self._features)
        return self.agent.unscale_action(self.agent.executor.actor(inputs, noise).action)

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """Beliefs after one transition each; an oracle learns nothing from them."""
        return belief if self._features is not None else belief + self.agent.factors(rows)

    def read(self, belief: Tensor) -> Latent:
        """Posterior of each belief."""
        return beliefs.read(belief)


_OF_ACTING = ("encoder", "executor.actor", "explorer.actor", "observation", "motion", "reward", "action")


class CohortPolicy:
    """The agents of several seeds behind the fold interface, each on its own rows: those of the first come first."""

    def __init__(self, agents: Stack, adaptation: Adaptation, features: Tensor | None = None) -> None:
        self.adaptation = adaptation
        self.action_size = agents.agent.action_reach.shape[-1]
        self._agents, self._features = agents.only(*_OF_ACTING), features

    def initial_belief(self, num: int) -> Tensor:
        """No evidence yet: zeros, `[num, 2 * latent]`."""
        return torch.zeros(num, 2 * self._agents.agent.latent, device=self._agents.agent.action_reach.device)

    def explore(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """Each seed's explorer's actions, `[n, act]` in environment units."""
        return self._each(AgentPolicy.explore, observation, belief, noise)

    def execute(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Each seed's executor's actions, `[n, act]` in environment units; an oracle reads the task."""
        told = latent if self._features is None else self._features
        return self._each(AgentPolicy.execute, observation, told, noise)

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """Beliefs after one transition each, by each seed's encoder; an oracle learns nothing from them."""
        return belief if self._features is not None else self._each(AgentPolicy.fold, belief, rows)

    def read(self, belief: Tensor) -> Latent:
        """Posterior of each belief."""
        return beliefs.read(belief)

    def _each(self, what: Callable[..., Tensor], *rows: Any) -> Tensor:
        own = tree_map(lambda field: field.unflatten(0, (self._agents.seeds, -1)), rows)
        found: Tensor = self._agents(lambda agent, *part: what(AgentPolicy(agent, self.adaptation), *part), *own)
        return found.flatten(0, 1)


class RandomPolicy:
    """Uniform actions, whatever it sees: the floor."""

    def __init__(self, low: Tensor, high: Tensor, adaptation: Adaptation, generator: torch.Generator) -> None:
        self.adaptation = adaptation
        self.action_size = len(low)
        self._low, self._high, self._generator = low, high, generator

    def initial_belief(self, num: int) -> Tensor:
        """A belief that never changes, `[num, 2]`."""
        return torch.zeros(num, 2, device=self._low.device)

    def explore(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """Uniform actions, `[n, act]`."""
        del belief
        return self.execute(observation, observation, noise)

    def execute(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Uniform actions, `[n, act]`."""
        del observation, latent
        share = torch.rand(noise.shape, generator=self._generator, device=self._low.device)
        return self._low + (self._high - self._low) * share

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """The same belief."""
        del rows
        return belief

    def read(self, belief: Tensor) -> Latent:
        """The prior."""
        return beliefs.read(belief)


class NumpyPolicy:
    """A runtime policy (an exported bundle, say) driven by the torch rollout."""

    def __init__(self, policy: runtime.Policy) -> None:
        self._policy = policy
        self.adaptation = policy.adaptation
        self.action_size = policy.action.size
        self._initial = torch.tensor(policy.belief.initial)
        self._last: tuple[Tensor, Latent] | None = None

    def initial_belief(self, num: int) -> Tensor:
        """The manifest's initial belief, `[num, belief]`."""
        return self._initial.expand(num, -1).clone()

    def explore(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """Explorer's actions, `[n, act]`."""
        return torch.from_numpy(self._policy.explore(observation.numpy(), belief.numpy(), noise.numpy()))

    def execute(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Executor's actions, `[n, act]`."""
        return torch.from_numpy(self._policy.execute(observation.numpy(), latent.numpy(), noise.numpy()))

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """Beliefs after one transition each."""
        return self._fold(belief, rows)[0]

    def read(self, belief: Tensor) -> Latent:
        """Posterior of each belief: what the encoder says after no further transition."""
        if self._last is not None and self._last[0] is belief:
            return self._last[1]
        width = self._policy.observation.size + int(self.adaptation.observe_reward)
        blank = [torch.zeros(len(belief), size) for size in (width, self.action_size, 1, width, 1, 1)]
        return self._fold(belief, Rows(*blank))[1]

    def _fold(self, belief: Tensor, rows: Rows) -> tuple[Tensor, Latent]:
        folded = self._policy.fold(
            belief.numpy(),
            Transitions(
                observation=rows.observation[:, None].numpy(),
                action=rows.action[:, None].numpy(),
                reward=rows.reward[:, None].numpy(),
                next_observation=rows.next_observation[:, None].numpy(),
                valid=rows.valid[:, None].numpy(),
            ),
        )
        after = torch.from_numpy(folded.belief)
        self._last = (after, Latent(torch.from_numpy(folded.latent_mean), torch.from_numpy(folded.latent_std)))
        return self._last


class TorchPolicy:
    """A policy of the torch rollout driven by the runtime.

    Args:
        policy: On the CPU.
        family: Whose observations and actions it knows.
    """

    def __init__(self, policy: BatchPolicy, family: Family) -> None:
        self.observation, self.action = family.observation, family.action
        self.adaptation = policy.adaptation
        self._policy = policy
        initial = policy.initial_belief(1)[0]
        self.belief = BeliefSpec(
            kind="torch",
            additive=False,
            size=len(initial),
            latent_size=policy.read(initial[None]).mean.shape[1],
            initial=tuple(initial.tolist()),
        )

    @torch.no_grad()
    def explore(self, observation: Array, belief: Array, noise: Array) -> Array:
        """Explorer's actions, `[n, act]`."""
        return _array(self._policy.explore(*(torch.from_numpy(part) for part in (observation, belief, noise))))

    @torch.no_grad()
    def execute(self, observation: Array, latent: Array, noise: Array) -> Array:
        """Executor's actions, `[n, act]`."""
        return _array(self._policy.execute(*(torch.from_numpy(part) for part in (observation, latent, noise))))

    @torch.no_grad()
    def fold(self, belief: Array, transitions: Transitions) -> Folded:
        """Belief after the transitions, and what it says of the task."""
        after = torch.from_numpy(belief)
        valid = torch.from_numpy(transitions.valid)
        fields = (transitions.observation, transitions.action, transitions.reward, transitions.next_observation)
        for step in range(valid.shape[1]):
            seen, action, reward, then = (torch.from_numpy(field[:, step]) for field in fields)
            now = valid[:, step]
            after = self._policy.fold(after, Rows(seen, action, reward, then, torch.zeros_like(now), now))
        latent = self._policy.read(after)
        return Folded(_array(after), _array(latent.mean), _array(latent.std))


def _array(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.numpy(), np.float32)
