"""How an agent goes through a trial: fold each transition into the belief, then act on what is known.

A pure core over a `Policy`: the server steps its sessions with it and training evaluates through it, so that both do
the same. It works on many trials at once, one row each, and no row sees another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ccm_runtime.belief import Array, Folded, NoveltyStats, Transitions, certainty, novelty
from ccm_runtime.errors import ConfigError, SpecError, TrialOrderError
from ccm_runtime.guard import Guard
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import BeginEpisode, Event, Intervention, Reaction, Transition
from ccm_runtime.policy import Policy
from ccm_runtime.trial import Closed, EpisodeBegan, ExplorationCompleted, Phase, Stepped, Trial, advance

MAX_EPISODES = 10_000
_LARGEST = float(np.finfo(np.float32).max)
_ACTION_NOISE, _LATENT_NOISE = 0, 1


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything that a trial carries from one event to the next, as a value.

    Attributes:
        trial: Where the trial is.
        belief: What is known of the task, `[belief]`.
        latent_mean: The belief's reading, `[latent]`.
        latent_std: Its standard deviation, `[latent]`.
        latent: What the executor is given in this episode, `[latent]`.
        observation: The last observation as the policies see it, `[input]`, zeros before the first.
        command: The last action that was given (or applied), `[act]`; `None` between episodes.
        last_safe: The last action that needed no mending, `[act]`.
        seed: Seed of the trial's own noise.
        stochastic: Whether actions are sampled.
        num_events: Events so far; with the seed, it determines the next noise.
        returns: Return of every finished episode, and of the one under way.
    """

    trial: Trial
    belief: Array
    latent_mean: Array
    latent_std: Array
    latent: Array
    observation: Array
    command: Array | None = None
    last_safe: Array | None = None
    seed: int = 0
    stochastic: bool = False
    num_events: int = 0
    returns: tuple[float, ...] = ()
    return_so_far: float = 0.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """A trial after an event, and what its policy would do: `[act]`, or `None` once the episode is over."""

    memory: Memory
    action: Array | None


@dataclass(frozen=True, slots=True)
class Adapter:
    """A policy with its guard and its training tasks' statistics."""

    policy: Policy
    guard: Guard
    novelty_stats: NoveltyStats | None = None

    @classmethod
    def of(cls, policy: Policy, safety: SafetyLimits | None = None, novelty_stats: NoveltyStats | None = None) -> Self:
        """Return the adapter of a policy under a bundle's limits (default: the action spec's bounds alone)."""
        return cls(policy, Guard.of(policy.action, safety or SafetyLimits()), novelty_stats)

    @property
    def input_size(self) -> int:
        """Length of an observation as the policies see it: with the previous reward, where they observe it."""
        return self.policy.observation.size + int(self.policy.adaptation.observe_reward)

    def start(
        self,
        *,
        seed: int = 0,
        stochastic: bool = False,
        explore_episodes: int | None = None,
        belief: Array | None = None,
    ) -> Memory:
        """Return a trial that nothing has happened in.

        Args:
            seed: Seed of the trial's own noise, in 0 to 2**64 - 1.
            stochastic: Sample actions instead of taking the deterministic ones.
            explore_episodes: Episodes of the explorer; `None`: the agent's K.
            belief: What is known already, `[belief]`; `None`: nothing.

        Raises:
            ConfigError: `explore_episodes` is negative or absurd, or `seed` is no unsigned 64-bit number.
            SpecError: `belief` does not fit.
        """
        adaptation = self.policy.adaptation
        episodes = adaptation.explore_episodes if explore_episodes is None else explore_episodes
        if not 0 <= episodes <= MAX_EPISODES:
            raise ConfigError(f"explore_episodes: expected 0 to {MAX_EPISODES}, got {episodes}")
        if not 0 <= seed < 2**64:
            raise ConfigError(f"seed: expected 0 to 2**64 - 1, got {seed}")
        start = self.initial_belief() if belief is None else self.check_belief(belief)
        mean, std = self.read(start)
        trial = Trial(explore_episodes=episodes, horizon=adaptation.horizon)
        observation = np.zeros(self.input_size, np.float32)
        return Memory(trial, start, mean, std, mean, observation, seed=seed, stochastic=stochastic)

    def initial_belief(self) -> Array:
        """Return the belief before any transition, `[belief]`."""
        return np.asarray(self.policy.belief.initial, np.float32)

    def check_belief(self, belief: Array) -> Array:
        """Return `belief`, `[belief]`.

        Raises:
            SpecError: It has another size, is not finite, or cannot be read.
        """
        size = self.policy.belief.size
        if belief.shape != (size,) or not np.isfinite(belief).all():
            raise SpecError(f"belief: expected {size} finite numbers, got shape {list(belief.shape)}")
        if not all(np.isfinite(part).all() for part in self.read(belief)):
            raise SpecError("belief: no latent can be read from it; it is not one that this encoder makes")
        return belief

    def read(self, belief: Array) -> tuple[Array, Array]:
        """Return the latent mean and standard deviation of one belief, each `[latent]`."""
        nothing = _padding(self.input_size, self.policy.action.size)
        folded = self.policy.fold(belief[None], nothing)
        return folded.latent_mean[0], folded.latent_std[0]

    def check(self, memory: Memory, event: Event) -> Event:
        """Return `event` with its vectors validated; nothing has changed if this refuses it.

        Raises:
            SpecError: A vector does not fit, or a number is not finite.
            TrialOrderError: The trial cannot take the event now.
        """
        if isinstance(event, BeginEpisode):
            advance(memory.trial, EpisodeBegan())
            if memory.trial.episodes_finished >= MAX_EPISODES:
                raise TrialOrderError(f"a trial takes at most {MAX_EPISODES} episodes; open another session")
            return BeginEpisode(self.policy.observation.validate_array(event.observation))
        advance(memory.trial, Stepped())
        if not abs(event.reward) <= _LARGEST:  # not a number compares as false
            raise SpecError(f"reward is {event.reward}; it must be a finite float32")
        applied = event.applied_action
        return Transition(
            self.policy.observation.validate_array(event.observation),
            event.reward,
            event.terminated,
            event.truncated,
            None if applied is None else self.policy.action.validate_array(applied),
        )

    def propose(self, memories: Sequence[Memory], events: Sequence[Event]) -> list[Proposal]:
        """Return each trial after its event, and what its policy would do. Events have passed `check`.

        The networks run at most once each, over all trials that need them.
        """
        after = self._fold(memories, events)
        after = [
            self._enter(memory) if memory.command is None and memory.trial.in_episode else memory for memory in after
        ]
        actions: list[Array | None] = [None] * len(after)
        for phase in (Phase.EXPLORE, Phase.EXECUTE):
            rows = [i for i, m in enumerate(after) if m.trial.in_episode and m.trial.phase is phase]
            if rows:
                for row, action in zip(rows, self._act(phase, [after[i] for i in rows]), strict=True):
                    actions[row] = action
        return [Proposal(memory, action) for memory, action in zip(after, actions, strict=True)]

    def conclude(self, proposal: Proposal, *, late: bool = False) -> tuple[Memory, Reaction]:
        """Let the guard have the last word, and return the trial and what to tell its client.

        Args:
            proposal: What `propose` returned.
            late: The action missed its deadline: the fallback takes its place.
        """
        memory, action = proposal.memory, proposal.action
        interventions: tuple[Intervention, ...] = ()
        if action is not None:
            guarded = self.guard.check(action, memory.command, memory.last_safe, late=late)
            action, interventions = guarded.action, guarded.interventions
            memory = replace(memory, command=action, last_safe=memory.last_safe if interventions else action)
        return memory, self._react(memory, action, interventions)

    def step(self, memories: Sequence[Memory], events: Sequence[Event]) -> list[tuple[Memory, Reaction]]:
        """Take one event in each trial: check, propose and conclude.

        Raises:
            SpecError: A vector does not fit.
            TrialOrderError: A trial cannot take its event now.
        """
        checked = [self.check(memory, event) for memory, event in zip(memories, events, strict=True)]
        return [self.conclude(proposal) for proposal in self.propose(memories, checked)]

    def distance(self, latent_mean: Array) -> float:
        """Return the novelty of one latent, `[latent]`; 0 when the training tasks' statistics are unknown."""
        return 0.0 if self.novelty_stats is None else float(novelty(latent_mean[None], self.novelty_stats)[0])

    def _react(self, memory: Memory, action: Array | None, interventions: tuple[Intervention, ...]) -> Reaction:
        trial = memory.trial
        return Reaction(
            action=action,
            phase=trial.phase,
            episode=trial.episodes_finished,
            step=trial.steps_in_episode,
            episode_over=not trial.in_episode,
            certainty=float(certainty(memory.latent_std[None])[0]),
            novelty=self.distance(memory.latent_mean),
            interventions=interventions,
        )

    def _fold(self, memories: Sequence[Memory], events: Sequence[Event]) -> list[Memory]:
        """Return the trials after their events; those with a transition have folded it."""
        moved = [(i, event) for i, event in enumerate(events) if isinstance(event, Transition)]
        after = [self._begin(memory, event) for memory, event in zip(memories, events, strict=True)]
        if not moved:
            return after
        rows = [
            (memories[i].observation, _applied(memories[i], event), event.reward, self._seen(event))
            for i, event in moved
        ]
        beliefs = np.stack([memories[i].belief for i, _ in moved])
        folded = self.policy.fold(beliefs, _stack(rows))
        for row, (i, event) in enumerate(moved):
            after[i] = self._absorb(memories[i], event, _pick(folded, row))
        return after

    def _seen(self, event: Event) -> Array:
        """Return an event's observation as the policies see it, `[input]`."""
        if not self.policy.adaptation.observe_reward:
            return event.observation
        reward = event.reward if isinstance(event, Transition) else 0.0
        return np.append(event.observation, np.float32(reward))

    def _begin(self, memory: Memory, event: Event) -> Memory:
        """Return the trial after a beginning; one with a transition is left to the fold."""
        if isinstance(event, Transition):
            return memory
        return replace(
            memory,
            trial=advance(memory.trial, EpisodeBegan()),
            observation=self._seen(event),
            command=None,
            num_events=memory.num_events + 1,
            return_so_far=0.0,
        )

    def _absorb(self, memory: Memory, event: Transition, folded: Folded) -> Memory:
        """Return the trial after a transition whose fold is known (one row)."""
        phase = memory.trial.phase
        trial = advance(memory.trial, Stepped(terminated=event.terminated, truncated=event.truncated))
        known = _usable(folded, memory)
        adaptation = self.policy.adaptation
        over = not trial.in_episode
        if over and phase is Phase.EXPLORE and adaptation.certain_at is not None:
            certain = float(certainty(known.latent_std[None])[0]) >= adaptation.certain_at
            trial = advance(trial, ExplorationCompleted()) if certain else trial
        follows = adaptation.while_executing and adaptation.latent == "mean"
        total = memory.return_so_far + event.reward
        return replace(
            memory,
            trial=trial,
            belief=known.belief,
            latent_mean=known.latent_mean,
            latent_std=known.latent_std,
            latent=known.latent_mean if follows else memory.latent,
            observation=self._seen(event),
            command=None if over else _applied(memory, event),
            num_events=memory.num_events + 1,
            returns=(*memory.returns, total) if over else memory.returns,
            return_so_far=0.0 if over else total,
        )

    def _enter(self, memory: Memory) -> Memory:
        """Return the trial with the latent that its new episode begins with."""
        if self.policy.adaptation.latent == "mean":
            return replace(memory, latent=memory.latent_mean)
        drawn = _noise(memory, _LATENT_NOISE, self.policy.belief.latent_size)
        return replace(memory, latent=memory.latent_mean + memory.latent_std * drawn)

    def _act(self, phase: Phase, memories: Sequence[Memory]) -> Array:
        """Return the policy's actions, `[n, act]`, of trials that are all in `phase`."""
        size = self.policy.action.size
        still = np.zeros(size, np.float32)
        observation = np.stack([memory.observation for memory in memories])
        noise = np.stack([_noise(m, _ACTION_NOISE, size) if m.stochastic else still for m in memories])
        if phase is Phase.EXPLORE and self.policy.adaptation.explore_with == "belief":
            return self.policy.explore(observation, np.stack([memory.belief for memory in memories]), noise)
        return self.policy.execute(observation, np.stack([memory.latent for memory in memories]), noise)


def close(memory: Memory) -> Memory:
    """Return the trial, over."""
    if memory.trial.closed:
        raise TrialOrderError("the trial is closed already")
    return replace(memory, trial=advance(memory.trial, Closed()))


def _usable(folded: Folded, memory: Memory) -> Folded:
    """Return what was folded or, if a freak transition made that unusable, what was known before."""
    if all(np.isfinite(part).all() for part in (folded.belief, folded.latent_mean, folded.latent_std)):
        return folded
    return Folded(memory.belief, memory.latent_mean, memory.latent_std)


def _applied(memory: Memory, event: Transition) -> Array:
    """Return the action that a transition was made with, `[act]`."""
    applied = memory.command if event.applied_action is None else event.applied_action
    assert applied is not None, "a transition follows an action"  # noqa: S101 (our own invariant)
    return applied


def _padding(input_size: int, action_size: int) -> Transitions:
    """Return no transition, for one belief."""
    observation, action = np.zeros((1, 1, input_size), np.float32), np.zeros((1, 1, action_size), np.float32)
    nothing = np.zeros((1, 1, 1), np.float32)
    return Transitions(observation, action, nothing, observation, nothing)


def _stack(transitions: Sequence[tuple[Array, Array, float, Array]]) -> Transitions:
    """Return one transition for each of `n` beliefs."""
    before, action, reward, after = (np.array(column, np.float32) for column in zip(*transitions, strict=True))
    valid = np.ones((len(transitions), 1, 1), np.float32)
    return Transitions(before[:, None], action[:, None], reward[:, None, None], after[:, None], valid)


def _pick(folded: Folded, row: int) -> Folded:
    return Folded(folded.belief[row], folded.latent_mean[row], folded.latent_std[row])


def _noise(memory: Memory, purpose: int, size: int) -> Array:
    """Return standard-normal noise `[size]`, a function of the trial's seed, its number of events and the purpose."""
    bits = np.random.Philox(key=[memory.seed, purpose], counter=[0, memory.num_events, 0, 0])
    return np.random.Generator(bits).standard_normal(size, np.float32)
