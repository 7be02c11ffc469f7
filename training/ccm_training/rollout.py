"""Trials in lock-step over many simulated tasks, driven by the runtime's own `Trial`."""

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ccm_runtime.manifest import Adaptation
from ccm_runtime.trial import EpisodeBegan, Phase, Stepped, Trial, advance
from ccm_training.belief import Latent
from ccm_training.envs.family import BatchedEnv
from ccm_training.replay import Rows


class BatchPolicy(Protocol):
    """The runtime's `Policy` in torch: the leading dimension is the simulation."""

    @property
    def adaptation(self) -> Adaptation:
        """How its trials run."""

    @property
    def action_size(self) -> int:
        """Entries of an action."""

    def initial_belief(self, num: int) -> Tensor:
        """Beliefs before any transition, `[num, belief]`."""

    def explore(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """Explorer's actions, `[n, act]` in environment units."""

    def execute(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Executor's actions, `[n, act]` in environment units."""

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """Beliefs after one transition each; fields of `rows` are `[n, ...]`."""

    def read(self, belief: Tensor) -> Latent:
        """What the beliefs say of the tasks."""


class Trials(NamedTuple):
    """What came of a batch of trials.

    Attributes:
        rows: Transitions, fields `[n, episodes, horizon, ...]`; observations as the agent sees them.
        certainty: After each episode, `[n, episodes]`.
        beliefs: After each episode, `[n, episodes, belief]`.
    """

    rows: Rows
    certainty: Tensor
    beliefs: Tensor

    @property
    def returns(self) -> Tensor:
        """Return of each episode, `[n, episodes]`."""
        return (self.rows.reward * self.rows.valid).sum((2, 3))


class Noise:
    """Standard-normal noise `[n, size]`, correlated from one draw to the next; a new start at each `restart`."""

    def __init__(self, num: int, size: int, *, correlation: float, generator: torch.Generator) -> None:
        self._shape = (num, size)
        self._correlation = correlation
        self._generator = generator
        self._value = self._draw()

    def _draw(self) -> Tensor:
        return torch.randn(self._shape, generator=self._generator, device=self._generator.device)

    def restart(self) -> None:
        """Forget the last draw."""
        self._value = self._draw()

    def draw(self) -> Tensor:
        """The next noise."""
        value = self._value
        fresh = math.sqrt(1.0 - self._correlation**2)
        self._value = self._correlation * value + fresh * self._draw()
        return value


def agent_observation(observation: Tensor, reward: Tensor, *, observe_reward: bool) -> Tensor:
    """What the agent sees: the observation and, if asked, the previous reward (`[n]`), `[n, obs + 1]`."""
    return torch.cat([observation, reward[:, None]], -1) if observe_reward else observation


@torch.no_grad()
def run_trials(env: BatchedEnv, policy: BatchPolicy, *, episodes: int, noise: Noise | None, generator: torch.Generator) -> Trials:
    """Run one trial on every simulation.

    Args:
        env: The simulations, `n` of them.
        policy: Who acts; its `adaptation` says how.
        episodes: N, episodes of the trial.
        noise: Noise of the actions; `None`: deterministic.
        generator: Draws latents where they are sampled.
    """
    plan = policy.adaptation
    trial = Trial(explore_episodes=plan.explore_episodes, horizon=plan.horizon)
    belief = policy.initial_belief(env.num_envs)
    certain = torch.zeros(env.num_envs, dtype=torch.bool, device=belief.device)
    collected: list[Rows] = []
    certainties, beliefs = [], []
    for _ in range(episodes):
        exploring = (trial.phase is Phase.EXPLORE) & ~certain
        trial = advance(trial, EpisodeBegan())
        if noise is not None:
            noise.restart()
        steps = []
        for rows, belief in _episode(env, policy, belief, exploring, noise, generator):  # noqa: B020, PLR1704
            steps.append(rows)
            trial = advance(trial, Stepped())
        collected.append(Rows(*(torch.stack(field, 1) for field in zip(*steps, strict=True))))
        std = policy.read(belief).std
        certainties.append(1.0 - std.square().clamp(max=1.0).mean(-1))
        beliefs.append(belief)
        if plan.certain_at is not None:
            certain |= certainties[-1] >= plan.certain_at
    rows = Rows(*(torch.stack(field, 1) for field in zip(*collected, strict=True)))
    return Trials(rows, torch.stack(certainties, 1), torch.stack(beliefs, 1))


def _episode(
    env: BatchedEnv,
    policy: BatchPolicy,
    belief: Tensor,
    exploring: Tensor,
    noise: Noise | None,
    generator: torch.Generator,
) -> Iterator[tuple[Rows, Tensor]]:
    """One episode everywhere: the transitions of each step, and the beliefs after it."""
    plan = policy.adaptation
    latent = _latent(policy, belief, generator)
    reward = torch.zeros(env.num_envs, device=belief.device)
    alive = torch.ones(env.num_envs, 1, device=belief.device)
    seen = agent_observation(env.reset(), reward, observe_reward=plan.observe_reward)
    for _ in range(plan.horizon):
        if plan.while_executing and plan.latent == "mean":
            latent = policy.read(belief).mean
        action = _act(policy, seen, belief, latent, exploring, noise)
        step = env.step(action)
        after = agent_observation(step.observation, step.reward, observe_reward=plan.observe_reward)
        ended = step.terminated[:, None].to(alive)
        rows = Rows(seen, action, step.reward[:, None] * alive, after, ended, alive)
        belief = policy.fold(belief, rows)
        yield rows, belief
        alive = alive * (1.0 - ended)
        seen = after


def _latent(policy: BatchPolicy, belief: Tensor, generator: torch.Generator) -> Tensor:
    posterior = policy.read(belief)
    if policy.adaptation.latent == "mean":
        return posterior.mean
    drawn = torch.randn(posterior.mean.shape, generator=generator, device=belief.device)
    return posterior.mean + posterior.std * drawn


def _act(
    policy: BatchPolicy, seen: Tensor, belief: Tensor, latent: Tensor, exploring: Tensor, noise: Noise | None
) -> Tensor:
    num = len(seen)
    drawn = noise.draw() if noise is not None else seen.new_zeros(num, policy.action_size)
    if not bool(exploring.any()):
        return policy.execute(seen, latent, drawn)
    explored = (
        policy.explore(seen, belief, drawn)
        if policy.adaptation.explore_with == "belief"
        else policy.execute(seen, latent, drawn)
    )
    if bool(exploring.all()):
        return explored
    return torch.where(exploring[:, None], explored, policy.execute(seen, latent, drawn))


@torch.no_grad()
def wander(
    env: BatchedEnv,
    *,
    episodes: int,
    horizon: int,
    low: Tensor,
    high: Tensor,
    turn_probability: float,
    observe_reward: bool,
    generator: torch.Generator,
) -> Rows:
    """Warm-up trials: at each step keep the last action or, by chance, turn to a new one.

    Sparse rewards are found by going somewhere, which noise that is fresh at every step does not do. Half of the
    new actions are drawn within the bounds and half on their boundary.
    """
    device, num = low.device, env.num_envs
    middle, reach = (high + low) / 2, (high - low) / 2

    def turn() -> Tensor:
        inside = 2.0 * torch.rand(num, len(low), generator=generator, device=device) - 1.0
        edge = inside / inside.abs().amax(-1, keepdim=True)
        at_edge = torch.rand(num, 1, generator=generator, device=device) < 0.5
        return middle + reach * torch.where(at_edge, edge, inside)

    collected = []
    for _ in range(episodes):
        reward, alive = torch.zeros(num, device=device), torch.ones(num, 1, device=device)
        seen = agent_observation(env.reset(), reward, observe_reward=observe_reward)
        action, steps = turn(), []
        for _ in range(horizon):
            turning = torch.rand(num, 1, generator=generator, device=device) < turn_probability
            action = torch.where(turning, turn(), action)
            step = env.step(action)
            after = agent_observation(step.observation, step.reward, observe_reward=observe_reward)
            ended = step.terminated[:, None].to(alive)
            steps.append(Rows(seen, action, step.reward[:, None] * alive, after, ended, alive))
            alive, seen = alive * (1.0 - ended), after
        collected.append(Rows(*(torch.stack(field, 1) for field in zip(*steps, strict=True))))
    return Rows(*(torch.stack(field, 1) for field in zip(*collected, strict=True)))
