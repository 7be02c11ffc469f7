"""A bundle that is loaded, which version of an agent it is, and which of them new sessions open with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from ccm_runtime import __version__
from ccm_runtime.adapt import Adapter
from ccm_runtime.batching import Stepper
from ccm_runtime.belief import Array, Transitions, certainty
from ccm_runtime.errors import ContextMismatchError, RolloutError
from ccm_runtime.manifest import Manifest
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Agent, Answer, Context
from ccm_runtime.policy import OnDevice, Policy
from ccm_runtime.session import Session
from ccm_runtime.trial import ExplorationRenewed, advance
from ccm_runtime.vigil import UNUSABLE


class Role(StrEnum):
    """What a version is loaded for."""

    CURRENT = "current"
    CANDIDATE = "candidate"
    PREVIOUS = "previous"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class ServedAgent:
    """A policy with the contract it is served under.

    Attributes:
        policy: What acts.
        manifest: Its contract.
        digest: Of the manifest's text.
        called: What the server calls the agent; empty: by its own name, `agent_id`.
        version: What the server calls this bundle of the agent; empty: by the beginning of its digest.
    """

    policy: Policy
    manifest: Manifest
    digest: str
    called: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        """What clients call the agent."""
        return self.called or self.manifest.agent_id

    def adapter(self) -> Adapter:
        """Return the agent's adapter, under the bundle's limits."""
        manifest = self.manifest
        return Adapter.of(self.policy, manifest.safety, manifest.novelty, manifest.experience)

    def describe(self) -> Agent:
        """Return what clients are told of it."""
        manifest = self.manifest
        return Agent(
            agent_id=manifest.agent_id,
            family=manifest.family,
            bundle_digest=self.digest,
            observation=manifest.observation,
            action=manifest.action,
            explore_episodes=manifest.adaptation.explore_episodes,
            episodes=manifest.adaptation.episodes,
            horizon=manifest.adaptation.horizon,
            belief_size=manifest.belief.size,
            latent_size=manifest.belief.latent_size,
            server_version=__version__,
            method=manifest.provenance.method,
            name=self.name,
        )

    def warm_up(self, max_batch: int) -> None:
        """Run every network once at every batch size, so that no session is the first to pay for one."""
        policy, manifest = self.policy, self.manifest
        seen = manifest.observation.size + int(manifest.adaptation.observe_reward)
        for n in range(1, max_batch + 1):
            observation, action = np.zeros((n, seen), np.float32), np.zeros((n, manifest.action.size), np.float32)
            belief = np.tile(np.asarray(manifest.belief.initial, np.float32), (n, 1))
            moved = (observation[:, None], action[:, None], np.zeros((n, 1, 1), np.float32), observation[:, None])
            folded = policy.fold(belief, Transitions(*moved, np.zeros((n, 1, 1), np.float32)))
            policy.execute(observation, folded.latent_mean, action)
            if manifest.adaptation.explore_with == "belief":
                policy.explore(observation, belief, action)


class Faults(NamedTuple):
    """Events at which a version did not do its work: its networks failed, or its action was late or not finite."""

    num_failures: int = 0
    num_misses: int = 0

    def since(self, earlier: "Faults") -> "Faults":
        """Return those that came after the earlier ones."""
        return Faults(self.num_failures - earlier.num_failures, self.num_misses - earlier.num_misses)


NO_FAULTS = Faults()


@dataclass(slots=True)
class Tally:
    """What became of a version's sessions since it was loaded.

    Attributes:
        num_opened: Sessions that were opened with it.
        num_episodes: Episodes that ended.
        sum_of_returns: Over these.
        num_interventions: Actions that the guard mended.
        num_misses: Of these, that were late or not finite.
        num_failures: Events that its networks failed at.
    """

    num_opened: int = 0
    num_episodes: int = 0
    sum_of_returns: float = 0.0
    num_interventions: int = 0
    num_misses: int = 0
    num_failures: int = 0

    @property
    def faults(self) -> Faults:
        """Events at which the version did not do its work."""
        return Faults(self.num_failures, self.num_misses)

    @property
    def mean_return(self) -> float:
        """Mean return of the episodes that ended; 0: none has."""
        return self.sum_of_returns / self.num_episodes if self.num_episodes else 0.0

    def mended(self, answer: Answer) -> None:
        """Count an action that the guard mended."""
        self.num_interventions += 1
        self.num_misses += not UNUSABLE.isdisjoint(answer.reaction.interventions)

    def ended(self, total: float) -> None:
        """Count an episode that ended."""
        self.num_episodes += 1
        self.sum_of_returns += total


class Version:
    """A bundle that is loaded, and what steps the sessions that were opened with it.

    Attributes:
        name: What it is called among its agent's versions.
        agent: What clients are told.
        manifest: The bundle's contract.
        adapter: What steps its sessions.
        stepper: What batches their events; no batch holds sessions of two versions.
        tally: What became of its sessions.
        num_users: Calls under way that need it though it may have no session.
    """

    def __init__(self, served: ServedAgent, adapter: Adapter, stepper: Stepper) -> None:
        self.agent = served.describe()
        self.manifest = served.manifest
        self.name = served.version or served.digest[:12]
        self.adapter = adapter
        self.stepper = stepper
        self._on_device = served.policy if isinstance(served.policy, OnDevice) else None
        self.tally = Tally()
        self.num_users = 0

    @property
    def device(self) -> str:
        """Where its networks truly run; it changes when a GPU fails (`lost`: nowhere any more)."""
        return "none" if self._on_device is None else self._on_device.device

    @property
    def failure(self) -> str:
        """Why its GPU failed, in one line; empty: it has not."""
        return "" if self._on_device is None else self._on_device.failure

    def watch_device(self, failed: Callable[[], None]) -> None:
        """Have `failed` called, on whatever thread the networks run, when the GPU fails; at once if it has."""
        if self._on_device is not None:
            self._on_device.on_failure = failed
            if self.failure:
                failed()

    @property
    def digest(self) -> str:
        """Of its bundle."""
        return self.agent.bundle_digest

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep it loaded for the while of a call."""
        self.num_users += 1
        try:
            yield
        finally:
            self.num_users -= 1

    def own(self, context: Context | None) -> Array | None:
        """Return the belief of a context that this bundle made, `[belief]`; of none, none.

        Raises:
            ContextMismatchError: Another bundle made it.
            SpecError: It does not fit, or cannot be read.
        """
        belief = self.claimed(context)
        return None if belief is None else self.adapter.check_belief(belief)

    def claimed(self, context: Context | None) -> Array | None:
        """Return the belief of a context that says that this bundle made it; no network runs. Raises as `own` does."""
        if context is None:
            return None
        if context.bundle_digest != self.digest:
            raise ContextMismatchError(
                f"the context was made by bundle {context.bundle_digest[:12] or '(unnamed)'}, this server's is "
                f"{self.digest[:12]}; encode its transitions again"
            )
        return self.adapter.check_belief_size(context.belief)


@dataclass(frozen=True, slots=True)
class Move:
    """Where sessions of a version go: to which one, and what a trial is with it before anything has happened."""

    to: Version
    blank: Memory

    def moved(self, session: Session, answer: Answer) -> tuple[Session, Answer]:
        """Return a session between two episodes, and its last answer, as they are when it goes on anew.

        Returns and numbers of episodes and events go on; what was known of the task is forgotten, and exploring begins.
        """
        blank, explore = self.blank, ExplorationRenewed(self.to.agent.explore_episodes)
        trial = advance(session.memory.trial, explore)._replace(horizon=blank.trial.horizon)
        memory = session.memory._replace(
            trial=trial,
            belief=blank.belief,
            latent_mean=blank.latent_mean,
            latent_std=blank.latent_std,
            latent=blank.latent,
            observation=blank.observation,
        )
        knows = float(certainty(blank.latent_std[None])[0])
        reaction = answer.reaction._replace(phase=trial.phase, certainty=knows)
        told = answer._replace(reaction=reaction, version_changed=True)
        return replace(session, memory=memory, last_answer=told, bundle_digest=self.to.digest), told


@dataclass(frozen=True, slots=True)
class Rollout:
    """Which versions of an agent there are to open sessions with, as a value.

    Attributes:
        current: What new sessions open with.
        previous: What was current before; a rollback returns to it.
        candidate: What a share of new sessions opens with.
        share: That share, 0 to 1.
        faults_before: What the candidate had done wrong before it was one; it is not judged by that.
    """

    current: Version
    previous: Version | None = None
    candidate: Version | None = None
    share: float = 0.0
    faults_before: Faults = NO_FAULTS

    def __iter__(self) -> Iterator[Version]:
        return (version for version in (self.current, self.candidate, self.previous) if version is not None)

    def role(self, version: Version) -> Role:
        """Return what a version of the agent is loaded for."""
        roles = {self.previous: Role.PREVIOUS, self.candidate: Role.CANDIDATE, self.current: Role.CURRENT}
        return roles.get(version, Role.LEAVING)

    def chosen(self, session_id: str, digest: str) -> Version:
        """Return what a new session opens with: the same for the same name, the candidate for a share of all names.

        Args:
            session_id: Its name, hexadecimal.
            digest: Of the bundle that its client insists on; empty: any.
        """
        if self.candidate is None or (digest and digest != self.candidate.digest):
            return self.current
        if digest or int(session_id[:8], 16) < self.share * 2**32:
            return self.candidate
        return self.current

    def to(self, version: Version) -> "Rollout":
        """Return the rollout in which all new sessions open with a version."""
        return Rollout(version, self.previous if version is self.current else self.current)

    def trying(self, candidate: Version, share: float) -> "Rollout":
        """Return the rollout in which a share of new sessions opens with a candidate."""
        if candidate is self.current:
            raise RolloutError(f"{candidate.agent.name} {candidate.name} is current already; it cannot be a candidate")
        previous = None if candidate is self.previous else self.previous
        before = self.faults_before if candidate is self.candidate else candidate.tally.faults
        return Rollout(self.current, previous, candidate, share, before)

    def promoted(self) -> "Rollout":
        """Return the rollout in which all new sessions open with the candidate."""
        if self.candidate is None:
            raise RolloutError(f"{self.current.agent.name} has no candidate to promote; load one with a share first")
        return self.to(self.candidate)

    def rolled_back(self) -> "Rollout":
        """Return the rollout without its candidate or, if it has none, the one before the last change."""
        if self.candidate is not None:
            return Rollout(self.current, self.previous)
        if self.previous is None:
            raise RolloutError(f"{self.current.agent.name} has neither a candidate nor a version before this one")
        return Rollout(self.previous)
