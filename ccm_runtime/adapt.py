"""How an agent goes through a trial: fold each transition into the belief, then act on what is known.

A pure core over a `Policy`: the server steps its sessions with it and training evaluates through it, so that both do
the same. It works on many trials at once, one row each, and no row sees another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ccm_runtime.belief import FAR_OFF, Array, ExperienceStats, Folded, NoveltyStats, Transitions, certainty, novelty
from ccm_runtime.change import task_changed
from ccm_runtime.errors import ConfigError, SpecError, TrialOrderError
from ccm_runtime.guard import Guard, Guarded
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.memory import ACTION_NOISE, Memory, absorb, action_of, begin, known_of, noise_of
from ccm_runtime.messages import BeginEpisode, EncodedTransition, Event, Intervention, Reaction, Transition
from ccm_runtime.owed import catch_up, check_room
from ccm_runtime.policy import Policy
from ccm_runtime.proposal import Proposal, proposal_of
from ccm_runtime.rows import Moved, as_rows, gather, padding, pick, transitions_of, usable
from ccm_runtime.specs import as_reward, finite_vector
from ccm_runtime.trial import EpisodeBegan, ExplorationRenewed, Phase, Stepped, Trial, admit, advance

MAX_EPISODES = 10_000
_STEPPED = Stepped()


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
        nothing = padding(self.input_size, self.policy.action.size)
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
        memories = [catch_up(self.policy, memory) if memory.owed else memory for memory in memories]
        seen = self._seen(events)
        moved = [(row, memories[row], event) for row, event in enumerate(events) if isinstance(event, Transition)]
        transitions = transitions_of(moved, seen) if moved else None
        known = self._fold(memories, moved, transitions)
        certainties = certainty(known.latent_std).tolist()
        novelties = self._distances(known.latent_mean)
        if transitions is not None and self.experience is not None:
            self._compare(self.experience, moved, transitions, novelties)
        after = [
            absorb(self.policy, memory, event, pick(known, row), seen[row], certain=certainties[row])
            if isinstance(event, Transition)
            else begin(self.policy, memory, event, seen[row])
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

        Certainty and novelty are those of the belief as it is. An episode that ends so never ends exploring early, nor
        does it begin exploring anew.

        Args:
            memory: The trial.
            event: Checked.
            because: The networks are LATE, or the session is SAFE.

        Raises:
            ServerBusyError: The trial owes too much already.
        """
        check_room(memory)
        seen = self._seen([event])[0]
        if isinstance(event, Transition):
            moved = EncodedTransition(memory.observation, action_of(memory, event), event.reward, seen)
            after = absorb(self.policy, memory, event, known_of(memory), seen, certain=-1.0)._replace(
                owed=(*memory.owed, moved)
            )
        else:
            after = begin(self.policy, memory, event, seen)
        guarded = None
        if after.trial.in_episode:
            guarded = self.guard.check(self.guard.low, after.command, after.last_safe, unusable=because)
        certain = float(certainty(memory.latent_std[None])[0])
        proposal = proposal_of(after, guarded, certain, self.distance(memory.latent_mean))
        return proposal.memory, proposal.reaction

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
        self, experience: ExperienceStats, moved: Sequence[Moved], transitions: Transitions, novelties: list[float]
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
        observation = as_rows([event.observation for event in events])
        if not self.policy.adaptation.observe_reward:
            return observation
        rewards = [event.reward if isinstance(event, Transition) else 0.0 for event in events]
        return np.concatenate((observation, np.array(rewards, np.float32)[:, None]), 1)

    def _fold(self, memories: Sequence[Memory], moved: Sequence[Moved], transitions: Transitions | None) -> Folded:
        """Return what is known after each event, one row each: what moved is folded."""
        if transitions is None:
            return gather([known_of(memory) for memory in memories])
        folded = self.policy.fold(as_rows([memory.belief for _, memory, _ in moved]), transitions)
        if len(moved) == len(memories) and usable(folded):
            return folded
        known = [known_of(memory) for memory in memories]
        for index, (row, _, _) in enumerate(moved):
            # What a freak transition made unusable is left as it was.
            known[row] = picked if usable(picked := pick(folded, index)) else known[row]
        return gather(known)

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
                proposed = self.policy.execute(observation, as_rows([m.latent for m in trials]), noise)
            guarded = self.guard.check_rows(proposed, [m.command for m in trials], [m.last_safe for m in trials])
            for row, action in zip(rows, guarded, strict=True):
                actions[row] = action
        return actions

    def _action_noise(self, memories: Sequence[Memory]) -> Array:
        size = self.policy.action.size
        noise = np.zeros((len(memories), size), np.float32)
        for row, memory in enumerate(memories):
            if memory.stochastic:
                noise[row] = noise_of(memory, ACTION_NOISE, size)
        return noise

    def _proposal(self, memory: Memory, guarded: Guarded | None, certain: float, novel: float) -> Proposal:
        """Return what a trial comes to, given what the guard lets it do."""
        novel = self._with_return(memory, novel)
        changed = self._changed(memory, novel)
        if changed:
            memory = self._renewed(memory)
            certain = float(certainty(memory.latent_std[None])[0])
        return proposal_of(memory, guarded, certain, novel, changed=changed)
