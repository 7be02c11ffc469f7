"""Policies with a memory (RL2, VariBAD): a GRU folds every transition of a trial, and one policy acts on what it holds.

The belief is the GRU's hidden state; `fold` is one step of it, which leaves it as it is where a row is padding.
"""

import torch
from torch import Tensor, nn

from ccm_runtime.manifest import Adaptation
from ccm_training.belief import Latent
from ccm_training.config import Config
from ccm_training.envs.family import Family
from ccm_training.experiment import entries_seen
from ccm_training.nets import Mlp, Normalizer
from ccm_training.onpolicy.gaussian import Gaussian, GaussianPolicy
from ccm_training.replay import Rows
from ccm_training.scales import ScaledTransitions


class Readout(nn.Module):
    """What RL2's policy is given: rectified features of the hidden state, as sure of themselves as a prior."""

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.size = memory
        self.layer = nn.Linear(memory, memory)

    def forward(self, memory: Tensor) -> Latent:
        """`[..., memory]` -> a latent of the same size; nothing says how certain it is, so every deviation is 1."""
        mean = torch.relu(self.layer(memory))
        return Latent(mean, torch.ones_like(mean))


class Posterior(nn.Module):
    """What VariBAD's policy is given: a Gaussian over tasks, its mean and its log variance side by side."""

    def __init__(self, memory: int, latent: int) -> None:
        super().__init__()
        self.size = 2 * latent
        self.layer = nn.Linear(memory, 2 * latent)

    def forward(self, memory: Tensor) -> Latent:
        """`[..., memory]` -> mean and log variance, `[..., 2 * latent]`; both have the Gaussian's deviation."""
        both = self.layer(memory)
        deviation = (0.5 * both.chunk(2, -1)[1]).exp()
        return Latent(both, torch.cat([deviation, deviation], -1))


class MemoryAgent(ScaledTransitions):
    """Everything that is exported of RL2 or VariBAD, and the value that teaches its policy.

    Args:
        observations: Entries of an observation as the agent sees it.
        action_low: Lower bounds.
        action_high: Upper bounds.
        readout: What the policy reads of the hidden state.
        memory: Size of the hidden state.
        hidden: Of policy and value.
        encoder_hidden: Between a transition and the GRU.
    """

    def __init__(
        self,
        *,
        observations: int,
        action_low: Tensor,
        action_high: Tensor,
        readout: Readout | Posterior,
        memory: int,
        hidden: tuple[int, ...],
        encoder_hidden: tuple[int, ...],
    ) -> None:
        super().__init__(observations, action_low, action_high)
        actions = len(action_low)
        self.embed = Mlp((2 * observations + actions + 1, *encoder_hidden))
        self.cell = nn.GRUCell(encoder_hidden[-1], memory)
        self.readout = readout
        self.latent_norm = Normalizer(readout.size)  # of VariBAD; RL2's features are read as they are
        self.decoder: nn.Module | None = None  # what only training has
        self.actor = GaussianPolicy(observations + readout.size, actions, hidden)
        self.value = GaussianPolicy(observations + readout.size, 1, hidden).mean
        with torch.no_grad():
            self.actor.mean[-1].weight.mul_(0.01)  # type: ignore[operator]  # begin in the middle of the bounds

    def unscale_action(self, action: Tensor) -> Tensor:
        """To environment units, within the bounds."""
        return super().unscale_action(action.clamp(-1.0, 1.0))

    def embedded(self, rows: Rows) -> Tensor:
        """Transitions as the GRU reads them, `[..., encoder_hidden]`."""
        return torch.relu(self.embed(self.scaled(rows)))

    def remember(self, memory: Tensor, embedded: Tensor, valid: Tensor) -> Tensor:
        """Hidden states `[n, memory]` after one embedded transition each; unchanged where it is not valid, `[n, 1]`."""
        return torch.where(valid > 0.0, self.cell(embedded, memory), memory)

    def unroll(self, rows: Rows) -> Tensor:
        """Hidden states of trials before and after every transition, `[n, steps, ...]` -> `[n, steps + 1, memory]`."""
        memory = rows.reward.new_zeros(len(rows.reward), self.cell.hidden_size)
        states = [memory]
        for embedded, valid in zip(self.embedded(rows).unbind(1), rows.valid.unbind(1), strict=True):
            states.append(self.remember(states[-1], embedded, valid))
        return torch.stack(states, 1)

    def policy_inputs(self, observation: Tensor, latent: Tensor) -> Tensor:
        """`[..., obs]` and `[..., latent]` as policy and value read them."""
        return torch.cat([self.observation_norm(observation), self.latent_norm(latent)], -1)

    def action(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """What it does with this noise, `[..., act]` in environment units."""
        acts: Gaussian = self.actor(self.policy_inputs(observation, latent))
        return self.unscale_action(acts.sample(noise))


class MemoryPolicy:
    """A `MemoryAgent` behind the fold interface; it explores and executes with one policy."""

    def __init__(self, agent: MemoryAgent, adaptation: Adaptation) -> None:
        self.agent, self.adaptation = agent, adaptation
        self.action_size = len(agent.action_reach)

    def initial_belief(self, num: int) -> Tensor:
        """Nothing remembered: zeros, `[num, memory]`."""
        return torch.zeros(num, self.agent.cell.hidden_size, device=self.agent.action_reach.device)

    def explore(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """Actions on what is remembered, `[n, act]` in environment units."""
        return self.execute(observation, self.read(belief).mean, noise)

    def execute(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Actions on what was read, `[n, act]` in environment units."""
        return self.agent.action(observation, latent, noise)

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """Hidden states after one transition each."""
        return self.agent.remember(belief, self.agent.embedded(rows), rows.valid)

    @torch.no_grad()
    def read(self, belief: Tensor) -> Latent:
        """What the policy is given of hidden states `[..., memory]`."""
        latent: Latent = self.agent.readout(belief)
        return latent


def build_memory_agent(config: Config, family: Family, readout: Readout | Posterior) -> MemoryAgent:
    """An agent of the sizes that the settings ask for."""
    return MemoryAgent(
        observations=entries_seen(config, family),
        action_low=torch.from_numpy(family.action.low_array),
        action_high=torch.from_numpy(family.action.high_array),
        readout=readout,
        memory=config.on_policy.memory,
        hidden=config.networks.hidden,
        encoder_hidden=config.networks.encoder_hidden,
    )


def fit_scales(agent: MemoryAgent, trials: Rows) -> None:
    """Fix the scales from warm-up trials, fields `[tasks, trials, episodes, horizon, ...]`, without their padding."""
    rows = Rows(*(field.flatten(0, 3) for field in trials))
    whole = rows.valid[:, 0] > 0.0
    agent.fit_normalizers(Rows(*(field[whole] for field in rows)))
