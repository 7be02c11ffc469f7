"""Trials in lock-step over many simulated tasks, driven by the runtime's own `Trial`."""

import math
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from ccm_runtime.manifest import Adaptation
from ccm_runtime.specs import BoxSpec
from ccm_runtime.trial import EpisodeBegan, Phase, Stepped, Trial, advance
from ccm_training.batch_guard import BatchGuard
from ccm_training.belief import Latent
from ccm_training.envs.family import BatchedEnv
from ccm_training.replay import Rows
from ccm_training.sources import Source, normal, uniform

_STROLL_END_PROBABILITY = 0.2  # at each step of one


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
        """What the beliefs, `[n, belief]`, say of the tasks, `[n, latent]`."""


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


class Wanderer:
    """Actions that are held for a while, `[n, act]`: half drawn within the bounds, half on their boundary.

    Sparse rewards are found by going somewhere, which noise that is fresh at every step does not do.

    Args:
        low: Lower bounds, `[act]`.
        high: Upper bounds, `[act]`.
        turn_probability: Chance at each step that an action is given up for another.
        generator: Draws everything.
    """

    def __init__(self, low: Tensor, high: Tensor, *, turn_probability: float, generator: Source) -> None:
        self._middle, self._reach = (high + low) / 2, (high - low) / 2
        self._turn_probability = turn_probability
        self._generator = generator

    @classmethod
    def within(cls, action: BoxSpec, *, turn_probability: float, generator: Source, device: torch.device) -> Self:
        """One within a family's bounds."""
        low, high = (torch.from_numpy(bound).to(device) for bound in (action.low_array, action.high_array))
        return cls(low, high, turn_probability=turn_probability, generator=generator)

    def chance(self, num: int, probability: float) -> Tensor:
        """Independent coin tosses, `[num, 1]`."""
        return uniform(self._generator, num, 1) < probability

    def turn(self, num: int) -> Tensor:
        """New actions, `[num, act]`."""
        inside = 2.0 * uniform(self._generator, num, len(self._reach)) - 1.0
        edge = inside / inside.abs().amax(-1, keepdim=True)
        return self._middle + self._reach * torch.where(self.chance(num, 0.5), edge, inside)

    def keep_or_turn(self, action: Tensor) -> Tensor:
        """The same actions, `[n, act]`, or by chance new ones."""
        return torch.where(self.chance(len(action), self._turn_probability), self.turn(len(action)), action)


class Noise:
    """What keeps collected trials different: correlated noise for the policies, and strolls.

    The noise is standard normal and correlated from one draw to the next (Eberhard et al., 2023). A stroll holds one
    random action for several steps, whatever the policy says (temporally extended epsilon-greedy: Dabney et al., 2021).

    Args:
        num: Simulations.
        wanderer: Draws the strolls' actions.
        size: Entries of an action.
        correlation: Of one draw with the next.
        stroll_probability: Chance at each step to begin a stroll.
        generator: Draws everything else.
    """

    def __init__(
        self,
        num: int,
        wanderer: Wanderer,
        *,
        size: int,
        correlation: float,
        stroll_probability: float = 0.0,
        generator: Source,
    ) -> None:
        self._shape = (num, size)
        self._wanderer = wanderer
        self._correlation = correlation
        self._begin = stroll_probability
        self._generator = generator
        self.restart()

    def _fresh(self) -> Tensor:
        return normal(self._generator, *self._shape)

    def restart(self) -> None:
        """Begin an episode."""
        self._value = self._fresh()
        self._action = self._wanderer.turn(self._shape[0])
        self._strolling = torch.zeros(self._shape[0], 1, dtype=torch.bool, device=self._value.device)

    def draw(self) -> Tensor:
        """The policies' next noise, `[n, act]`."""
        value = self._value
        self._value = self._correlation * value + math.sqrt(1.0 - self._correlation**2) * self._fresh()
        return value

    def disturb(self, action: Tensor) -> Tensor:
        """The policies' actions, or the stroll's where one is under way, `[n, act]`."""
        num = len(action)
        begins = self._wanderer.chance(num, self._begin) & ~self._strolling
        ends = self._wanderer.chance(num, _STROLL_END_PROBABILITY) & self._strolling
        self._action = torch.where(begins, self._wanderer.turn(num), self._action)
        self._strolling = (self._strolling | begins) & ~ends
        return torch.where(self._strolling, self._action, action)


class ActionNoise(Protocol):
    """What makes actions random, such as `Noise`."""

    def restart(self) -> None:
        """Begin an episode."""

    def draw(self) -> Tensor:
        """The policies' next noise, `[n, act]`."""

    def disturb(self, action: Tensor) -> Tensor:
        """What is done in place of the policies' actions, `[n, act]`."""


def stack(parts: list[Rows]) -> Rows:
    """Rows along a new dimension after the first."""
    return Rows(*(torch.stack(field, 1) for field in zip(*parts, strict=True)))


def agent_observation(observation: Tensor, reward: Tensor, *, observe_reward: bool) -> Tensor:
    """What the agent sees: the observation and, if asked, the previous reward (`[n]`), `[n, obs + 1]`.

    A copy either way: a simulation may write its next observation where it wrote this one.
    """
    return torch.cat([observation, reward[:, None]], -1) if observe_reward else observation.clone()


class Episode:
    """One episode everywhere: steps the simulations, appends the previous reward, pads where an episode has ended.

    In padding nothing moves and nothing is paid.

    Attributes:
        observation: What the agent sees, `[n, input]`.
        alive: 1 where the episode goes on, 0 where it has ended, `[n, 1]`.
    """

    def __init__(self, env: BatchedEnv, *, observe_reward: bool) -> None:
        self._env, self._observe_reward = env, observe_reward
        first = env.reset()
        self.alive = first.new_ones(len(first), 1)
        self.observation = agent_observation(first, first.new_zeros(len(first)), observe_reward=observe_reward)

    def step(self, action: Tensor) -> Rows:
        """The transition of every simulation, fields `[n, ...]`."""
        step = self._env.step(action)
        after = agent_observation(step.observation, step.reward, observe_reward=self._observe_reward)
        # What a simulation shows and pays after the end counts for nothing, not even where it is no number.
        alive = self.alive > 0.0
        after = torch.where(alive, after, self.observation)
        reward = torch.where(alive, step.reward[:, None], 0.0)
        ended = step.terminated[:, None].to(self.alive)
        rows = Rows(self.observation, action, reward, after, ended, self.alive)
        self.alive = self.alive * (1.0 - ended)
        self.observation = after
        return rows


@torch.no_grad()
def run_trials(
    env: BatchedEnv,
    policy: BatchPolicy,
    *,
    episodes: int,
    noise: ActionNoise | None,
    generator: Source,
    guard: BatchGuard | None = None,
) -> Trials:
    """Run one trial on every simulation.

    Args:
        env: The simulations, `n` of them.
        policy: Who acts; its `adaptation` says how.
        episodes: N, episodes of the trial.
        noise: Keeps collected trials different; `None`: deterministic.
        generator: Draws latents where they are sampled.
        guard: Has the last word on actions, as where the agent is served; `None`: what the policy says is done.
    """
    plan = policy.adaptation
    trial = Trial(explore_episodes=plan.explore_episodes, horizon=plan.horizon)
    belief = policy.initial_belief(env.num_envs)
    certain: Tensor | None = None
    collected, certainties, beliefs = [], [], []
    for _ in range(episodes):
        exploring = trial.phase is Phase.EXPLORE
        trial = advance(trial, EpisodeBegan())
        episode, steps = Episode(env, observe_reward=plan.observe_reward), []
        latent = _latent(policy, belief, generator)
        if noise is not None:
            noise.restart()
        if guard is not None:
            guard.restart()
        while trial.in_episode:
            if plan.while_executing and plan.latent == "mean":
                latent = policy.read(belief).mean
            at = _Situation(episode.observation, belief, latent, certain)
            action = _act(policy, at, noise, exploring=exploring)
            if guard is not None:
                action = guard.check(action, episode.alive)
            steps.append(episode.step(action))
            belief = policy.fold(belief, steps[-1])
            trial = advance(trial, Stepped())
        collected.append(stack(steps))
        certainties.append(1.0 - policy.read(belief).std.square().clamp(max=1.0).mean(-1))
        beliefs.append(belief)
        if plan.certain_at is not None:
            enough = certainties[-1] >= plan.certain_at
            certain = enough if certain is None else certain | enough
    return Trials(stack(collected), torch.stack(certainties, 1), torch.stack(beliefs, 1))


class _Situation(NamedTuple):
    """What decides on an action; all `[n, ...]`. `certain`, booleans `[n]`: who has explored enough; `None`: nobody."""

    seen: Tensor
    belief: Tensor
    latent: Tensor
    certain: Tensor | None


def _latent(policy: BatchPolicy, belief: Tensor, generator: Source) -> Tensor:
    posterior = policy.read(belief)
    if policy.adaptation.latent == "mean":
        return posterior.mean
    return posterior.mean + posterior.std * normal(generator, *posterior.mean.shape)


def _act(policy: BatchPolicy, at: _Situation, noise: ActionNoise | None, *, exploring: bool) -> Tensor:
    """Actions of everyone; nothing is asked of the device, so that a GPU may capture it."""
    drawn = at.seen.new_zeros(len(at.seen), policy.action_size) if noise is None else noise.draw()
    if policy.adaptation.explore_with == "latent" or not exploring:
        action = policy.execute(at.seen, at.latent, drawn)
    else:
        action = policy.explore(at.seen, at.belief, drawn)
        if at.certain is not None:
            action = torch.where(at.certain[:, None], policy.execute(at.seen, at.latent, drawn), action)
    return action if noise is None else noise.disturb(action)


@torch.no_grad()
def wander(env: BatchedEnv, wanderer: Wanderer, *, episodes: int, horizon: int, observe_reward: bool) -> Rows:
    """Warm-up trials under actions that are held for a while; fields `[n, episodes, horizon, ...]`."""
    collected = []
    for _ in range(episodes):
        episode = Episode(env, observe_reward=observe_reward)
        action, steps = wanderer.turn(env.num_envs), []
        for _ in range(horizon):
            action = wanderer.keep_or_turn(action)
            steps.append(episode.step(action))
        collected.append(stack(steps))
    return stack(collected)
