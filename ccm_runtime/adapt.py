"""How an agent goes through a trial: fold each transition into the belief, then act on what is known.

A pure core over a `Policy`: the server steps its sessions with it and training evaluates through it, so that both do
the same. It works on many trials at once, one row each, and no row sees another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, Self

import numpy as np

from ccm_runtime.belief import FAR_OFF, Array, ExperienceStats, Folded, NoveltyStats, Transitions, certainty, novelty
from ccm_runtime.change import task_changed
from ccm_runtime.errors import ConfigError, ServerBusyError, SpecError, TrialOrderError
from ccm_runtime.guard import Guard, Guarded
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import BeginEpisode, EncodedTransition, Event, Intervention, Reaction, Transition
from ccm_runtime.policy import Policy
from ccm_runtime.specs import as_reward, finite, finite_vector
from ccm_runtime.trial import (
    Closed,
    EpisodeBegan,
    ExplorationCompleted,
    ExplorationRenewed,
    Phase,
    Stepped,
    Trial,
    admit,
    advance,
)

MAX_EPISODES = 10_000
# Transitions that a trial may owe its belief; they are folded so many at a time.
MAX_OWED = 1_024
_OWED_CHUNK = 64
_ACTION_NOISE, _LATENT_NOISE = 0, 1
_STEPPED = Stepped()


class Memory(NamedTuple):
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
        returns: Return of every finished episode.
        return_so_far: Return of the episode under way.
        owed: Transitions that were answered without the networks and are not in the belief yet, oldest first.
        re_explore: Episodes to explore for when the task has changed; 0: that is not watched.
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
    owed: tuple[EncodedTransition, ...] = ()
    re_explore: int = 0


class Proposal(NamedTuple):
    """A trial after an event whose action came in time.

    Attributes:
        memory: The trial.
        reaction: What to tell its client.
        previous: The command before this one, `[act]`; `None` at the beginning of an episode.
        last_safe: The last command before this one that needed no mending, `[act]`.
    """

    memory: Memory
    reaction: Reaction
    previous: Array | None
    last_safe: Array | None


_Moved = tuple[int, Memory, Transition]  # a row, its trial before its transition, and the transition


@dataclass(frozen=True, slots=True)
class Adapter:
    """A policy with its guard and its training tasks' statistics."""

    policy: Policy
    guard: Guard
    novelty_stats: NoveltyStats | None = None
    experience: ExperienceStats | None = None

    @classmethod
    def of(
        cls,
        policy: Policy,
        safety: SafetyLimits | None = None,
        novelty_stats: NoveltyStats | None = None,
        experience: ExperienceStats | None = None,
    ) -> Self:
        """Return the adapter of a policy under a bundle's limits (default: the action spec's bounds alone)."""
        return cls(policy, Guard.of(policy.action, safety or SafetyLimits()), novelty_stats, experience)

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
        re_explore: bool = False,
    ) -> Memory:
        """Return a trial that nothing has happened in.

        Args:
            seed: Seed of the trial's own noise, in 0 to 2**64 - 1.
            stochastic: Sample actions instead of taking the deterministic ones.
            explore_episodes: Episodes of the explorer; `None`: the agent's K.
            belief: What is known already, `[belief]`; `None`: nothing.
            re_explore: Explore anew, for the same number of episodes or else K, when the task has changed.

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
        anew = (episodes or adaptation.explore_episodes) if re_explore else 0
        return Memory(trial, start, mean, std, mean, observation, seed=seed, stochastic=stochastic, re_explore=anew)

    def initial_belief(self) -> Array:
        """Return the belief before any transition, `[belief]`."""
        return np.asarray(self.policy.belief.initial, np.float32)

    def check_belief(self, belief: Array) -> Array:
        """Return `belief`, `[belief]`.

        Raises:
            SpecError: It has another size, is not finite, or cannot be read.
        """
        self.check_belief_size(belief)
        if not all(np.isfinite(part).all() for part in self.read(belief)):
            raise SpecError("belief: no latent can be read from it; it is not one that this encoder makes")
        return belief

    def check_belief_size(self, belief: Array) -> Array:
        """Return `belief`, `[belief]`; no network runs. Raises SpecError: it has another size, or is not finite."""
        return finite_vector("belief", belief, self.policy.belief.size)

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
            admit(memory.trial, EpisodeBegan(event.abandon))
            if memory.trial.episodes_finished >= MAX_EPISODES:
                raise TrialOrderError(f"a trial takes at most {MAX_EPISODES} episodes; open another session")
        else:
            admit(memory.trial, _STEPPED)
            as_reward(event.reward)
            if event.applied_action is not None:
                applied = self.policy.action.validate_array(event.applied_action)
                event = event if applied is event.applied_action else replace(event, applied_action=applied)
        observation = self.policy.observation.validate_array(event.observation)
        return event if observation is event.observation else replace(event, observation=observation)

    def propose(self, memories: Sequence[Memory], events: Sequence[Event]) -> list[Proposal]:
        """Return each trial after its event, and what its policy does, as the guard lets it. Events are checked.

        The networks run at most once each, over all trials that need them.
        """
        memories = [self.catch_up(memory) if memory.owed else memory for memory in memories]
        seen = self._seen(events)
        moved = [(row, memories[row], event) for row, event in enumerate(events) if isinstance(event, Transition)]
        transitions = _transitions(moved, seen) if moved else None
        known = self._fold(memories, moved, transitions)
        certainties = certainty(known.latent_std).tolist()
        novelties = self._distances(known.latent_mean)
        if transitions is not None and self.experience is not None:
            self._compare(self.experience, moved, transitions, novelties)
        after = [
            self._absorb(memory, event, _pick(known, row), seen[row], certainties[row])
            if isinstance(event, Transition)
            else self._begin(memory, event, seen[row])
            for row, (memory, event) in enumerate(zip(memories, events, strict=True))
        ]
        actions = self._act(after, seen, known.belief)
        return [self._proposal(*row) for row in zip(after, actions, certainties, novelties, strict=True)]

    def conclude(self, proposal: Proposal, *, unusable: Intervention | None = None) -> tuple[Memory, Reaction]:
        """Return the trial and what to tell its client.

        Args:
            proposal: What `propose` returned.
            unusable: Why the guard puts the fallback in the action's place: it is LATE, or the session is SAFE.
        """
        memory, reaction = proposal.memory, proposal.reaction
        if unusable is None or reaction.action is None:
            return memory, reaction
        guarded = self.guard.check(reaction.action, proposal.previous, proposal.last_safe, unusable=unusable)
        memory = memory._replace(command=guarded.action, last_safe=proposal.last_safe)
        return memory, reaction._replace(action=guarded.action, interventions=guarded.interventions)

    def fall_back(self, memory: Memory, event: Event, because: Intervention) -> tuple[Memory, Reaction]:
        """Take an event without the networks: the action is the fallback, and its transition is owed to the belief.

        Certainty and novelty are those of the belief as it is. An episode that ends so never ends exploring early.

        Args:
            memory: The trial.
            event: Checked.
            because: The networks are LATE, or the session is SAFE.

        Raises:
            ServerBusyError: The trial owes too much already.
        """
        if len(memory.owed) >= MAX_OWED:
            raise ServerBusyError(
                f"the networks have not answered for {MAX_OWED} transitions, the most that a session may owe its "
                "belief; stop, and look at the server"
            )
        seen = self._seen([event])[0]
        if isinstance(event, Transition):
            moved = EncodedTransition(memory.observation, _applied(memory, event), event.reward, seen)
            after = self._absorb(memory, event, _known(memory), seen, certain=-1.0)._replace(owed=(*memory.owed, moved))
        else:
            after = self._begin(memory, event, seen)
        guarded = None
        if after.trial.in_episode:
            guarded = self.guard.check(self.guard.low, after.command, after.last_safe, unusable=because)
        certain = float(certainty(memory.latent_std[None])[0])
        proposal = _propose(after, guarded, certain, self.distance(memory.latent_mean))
        return proposal.memory, proposal.reaction

    def catch_up(self, memory: Memory) -> Memory:
        """Return the trial with all that it owes folded into its belief."""
        known = _known(memory)
        for begin in range(0, len(memory.owed), _OWED_CHUNK):
            chunk = memory.owed[begin : begin + _OWED_CHUNK]
            folded = self._fold_chunk(known, chunk)
            if not _usable(folded):  # one of them is a freak; the others still count
                folded = known
                for one in chunk:
                    folded = alone if _usable(alone := self._fold_chunk(folded, (one,))) else folded
            known = folded
        return self.caught_up(memory, known, len(memory.owed))

    def caught_up(self, memory: Memory, known: Folded, num_owed: int) -> Memory:
        """Return the trial with a belief (one row) that holds the first `num_owed` of what it owes."""
        return memory._replace(
            belief=known.belief,
            latent_mean=known.latent_mean,
            latent_std=known.latent_std,
            latent=known.latent_mean if self._follows else memory.latent,
            owed=memory.owed[num_owed:],
        )

    @property
    def _follows(self) -> bool:
        """Whether the latent follows the belief within an episode."""
        adaptation = self.policy.adaptation
        return adaptation.while_executing and adaptation.latent == "mean"

    def _fold_chunk(self, known: Folded, moved: Sequence[EncodedTransition]) -> Folded:
        """Return what is known (one row) after whole transitions."""
        transitions = Transitions(
            _rows([one.observation for one in moved])[None],
            _rows([one.action for one in moved])[None],
            np.array([[[one.reward] for one in moved]], np.float32),
            _rows([one.next_observation for one in moved])[None],
            np.ones((1, len(moved), 1), np.float32),
        )
        return _pick(self.policy.fold(known.belief[None], transitions), 0)

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

    def _distances(self, latent_mean: Array) -> list[float]:
        """Return the novelty of each latent, `[n, latent]`."""
        if self.novelty_stats is None:
            return [0.0] * len(latent_mean)
        distances: list[float] = novelty(latent_mean, self.novelty_stats).tolist()
        return distances

    @FAR_OFF
    def _compare(
        self, experience: ExperienceStats, moved: Sequence[_Moved], transitions: Transitions, novelties: list[float]
    ) -> None:
        """Raise the novelties of the trials whose transition is farther off than their belief."""
        size = self.policy.observation.size
        was, now = transitions.observation[:, 0, :size], transitions.next_observation[:, 0, :size]
        vectors = np.concatenate((was, transitions.action[:, 0], transitions.reward[:, 0], now - was), 1)
        for (row, _, _), surprise in zip(moved, experience.surprise(vectors).tolist(), strict=True):
            novelties[row] = max(novelties[row], surprise)

    def _with_return(self, memory: Memory, novel: float) -> float:
        """Return the novelty with that of the executor's last return, if exploring has not begun anew since."""
        if self.experience is None or len(memory.returns) <= memory.trial.explore_episodes:
            return novel
        return max(novel, self.experience.shortfall(memory.returns[-1]))

    def _changed(self, memory: Memory, novel: float) -> bool:
        """Return whether the episode that has just ended shows that the task has changed, where that is watched."""
        if not memory.re_explore or memory.trial.in_episode or memory.trial.phase is not Phase.EXECUTE:
            return False
        return task_changed(memory.returns[memory.trial.explore_episodes :], novel, self.experience)

    def _renewed(self, memory: Memory) -> Memory:
        """Return the trial with nothing known and exploring anew."""
        belief = self.initial_belief()
        mean, std = self.read(belief)
        trial = advance(memory.trial, ExplorationRenewed(memory.re_explore))
        return memory._replace(trial=trial, belief=belief, latent_mean=mean, latent_std=std, latent=mean)

    def _seen(self, events: Sequence[Event]) -> Array:
        """Return each event's observation as the policies see it, `[n, input]`."""
        observation = _rows([event.observation for event in events])
        if not self.policy.adaptation.observe_reward:
            return observation
        rewards = [event.reward if isinstance(event, Transition) else 0.0 for event in events]
        return np.concatenate((observation, np.array(rewards, np.float32)[:, None]), 1)

    def _fold(self, memories: Sequence[Memory], moved: Sequence[_Moved], transitions: Transitions | None) -> Folded:
        """Return what is known after each event, one row each: what moved is folded."""
        if transitions is None:
            return _gather([_known(memory) for memory in memories])
        folded = self.policy.fold(_rows([memory.belief for _, memory, _ in moved]), transitions)
        if len(moved) == len(memories) and _usable(folded):
            return folded
        known = [_known(memory) for memory in memories]
        for index, (row, _, _) in enumerate(moved):
            # What a freak transition made unusable is left as it was.
            known[row] = picked if _usable(picked := _pick(folded, index)) else known[row]
        return _gather(known)

    def _begin(self, memory: Memory, event: BeginEpisode, seen: Array) -> Memory:
        """Return the trial after the beginning of an episode, with the latent that it begins with."""
        begun = memory._replace(
            trial=advance(memory.trial, EpisodeBegan(event.abandon)),
            latent=memory.latent_mean,
            observation=seen,
            command=None,
            num_events=memory.num_events + 1,
            return_so_far=0.0,
        )
        if self.policy.adaptation.latent == "mean":
            return begun
        drawn = _noise(begun, _LATENT_NOISE, self.policy.belief.latent_size)
        return begun._replace(latent=memory.latent_mean + memory.latent_std * drawn)

    def _absorb(self, memory: Memory, event: Transition, known: Folded, seen: Array, certain: float) -> Memory:
        """Return the trial after a transition, with what is known now (one row)."""
        adaptation = self.policy.adaptation
        ended = event.terminated or event.truncated
        trial = advance(memory.trial, Stepped(event.terminated, event.truncated) if ended else _STEPPED)
        over = not trial.in_episode
        if over and adaptation.certain_at is not None and memory.trial.phase is Phase.EXPLORE:
            trial = advance(trial, ExplorationCompleted()) if certain >= adaptation.certain_at else trial
        total = memory.return_so_far + event.reward
        return Memory(
            trial=trial,
            belief=known.belief,
            latent_mean=known.latent_mean,
            latent_std=known.latent_std,
            latent=known.latent_mean if self._follows else memory.latent,
            observation=seen,
            command=None if over else _applied(memory, event),
            last_safe=memory.last_safe,
            seed=memory.seed,
            stochastic=memory.stochastic,
            num_events=memory.num_events + 1,
            returns=(*memory.returns, total) if over else memory.returns,
            return_so_far=0.0 if over else total,
            re_explore=memory.re_explore,
        )

    def _act(self, memories: Sequence[Memory], seen: Array, belief: Array) -> list[Guarded | None]:
        """Return what each trial's policy does, as the guard lets it; `None` where the episode is over.

        Args:
            memories: The trials, `n`.
            seen: Their observations, `[n, input]`.
            belief: Their beliefs, `[n, belief]`.
        """
        actions: list[Guarded | None] = [None] * len(memories)
        acting: dict[bool, list[int]] = {True: [], False: []}  # by whether the belief is acted on, or the latent
        on_belief = self.policy.adaptation.explore_with == "belief"
        for row, memory in enumerate(memories):
            if memory.trial.in_episode:
                acting[on_belief and memory.trial.phase is Phase.EXPLORE].append(row)
        for explores, rows in acting.items():
            if not rows:
                continue
            everyone = len(rows) == len(memories)
            trials = memories if everyone else [memories[row] for row in rows]
            observation, noise = seen if everyone else seen[rows], self._action_noise(trials)
            if explores:
                proposed = self.policy.explore(observation, belief if everyone else belief[rows], noise)
            else:
                proposed = self.policy.execute(observation, _rows([m.latent for m in trials]), noise)
            guarded = self.guard.check_rows(proposed, [m.command for m in trials], [m.last_safe for m in trials])
            for row, action in zip(rows, guarded, strict=True):
                actions[row] = action
        return actions

    def _action_noise(self, memories: Sequence[Memory]) -> Array:
        size = self.policy.action.size
        noise = np.zeros((len(memories), size), np.float32)
        for row, memory in enumerate(memories):
            if memory.stochastic:
                noise[row] = _noise(memory, _ACTION_NOISE, size)
        return noise

    def _proposal(self, memory: Memory, guarded: Guarded | None, certain: float, novel: float) -> Proposal:
        """Return what a trial comes to, given what the guard lets it do."""
        novel = self._with_return(memory, novel)
        changed = self._changed(memory, novel)
        if changed:
            memory = self._renewed(memory)
            certain = float(certainty(memory.latent_std[None])[0])
        return _propose(memory, guarded, certain, novel, changed=changed)


def close(memory: Memory) -> Memory:
    """Return the trial, over."""
    if memory.trial.closed:
        raise TrialOrderError("the trial is closed already")
    return memory._replace(trial=advance(memory.trial, Closed()))


def _propose(
    memory: Memory, guarded: Guarded | None, certain: float, novel: float, *, changed: bool = False
) -> Proposal:
    """Return the trial with the command that it is given, and what to tell its client."""
    trial, previous, last_safe = memory.trial, memory.command, memory.last_safe
    action, interventions = guarded or (None, ())
    if action is not None:
        memory = memory._replace(command=action, last_safe=last_safe if interventions else action)
    reaction = Reaction(
        action,
        trial.phase,
        trial.episodes_finished,
        trial.steps_in_episode,
        not trial.in_episode,
        certain,
        novel,
        interventions,
        changed,
    )
    return Proposal(memory, reaction, previous, last_safe)


def _known(memory: Memory) -> Folded:
    return Folded(memory.belief, memory.latent_mean, memory.latent_std)


def _usable(folded: Folded) -> bool:
    return finite(folded.belief) and finite(folded.latent_mean) and finite(folded.latent_std)


def _gather(rows: Sequence[Folded]) -> Folded:
    """Return single rows as one batch."""
    return Folded(
        _rows([row.belief for row in rows]),
        _rows([row.latent_mean for row in rows]),
        _rows([row.latent_std for row in rows]),
    )


def _rows(vectors: Sequence[Array]) -> Array:
    """Return vectors as the rows of a matrix, without the price of `np.stack`."""
    return vectors[0][None] if len(vectors) == 1 else np.concatenate(vectors).reshape(len(vectors), -1)


def _transitions(moved: Sequence[_Moved], seen: Array) -> Transitions:
    """Return what moved as transitions, each `[m, 1, .]`; `seen` is what every trial sees now, `[n, input]`."""
    after = seen if len(moved) == len(seen) else seen[[row for row, _, _ in moved]]
    return Transitions(
        _rows([memory.observation for _, memory, _ in moved])[:, None],
        _rows([_applied(memory, event) for _, memory, event in moved])[:, None],
        np.array([event.reward for _, _, event in moved], np.float32)[:, None, None],
        after[:, None],
        _all_valid(len(moved)),
    )


@cache
def _all_valid(num: int) -> Array:
    """Return `[num, 1, 1]` ones, which nobody writes to."""
    return np.ones((num, 1, 1), np.float32)


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


def _pick(folded: Folded, row: int) -> Folded:
    return Folded(folded.belief[row], folded.latent_mean[row], folded.latent_std[row])


def _noise(memory: Memory, purpose: int, size: int) -> Array:
    """Return standard-normal noise `[size]`, a function of the trial's seed, its number of events and the purpose."""
    bits = np.random.Philox(key=[memory.seed, purpose], counter=[0, memory.num_events, 0, 0])
    return np.random.Generator(bits).standard_normal(size, np.float32)
