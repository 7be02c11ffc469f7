"""The agents of a server, by name, and every version of them that is loaded."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ccm_runtime.errors import AgentUnknownError, ConfigError, RolloutError
from ccm_runtime.session import Session
from ccm_runtime.versions import Role, Rollout, ServedAgent, Version


class Roster:
    """Agents, each with its rollout.

    A version is loaded while it is in its agent's rollout, or has sessions, or is in use; then it is dropped.

    Args:
        agents: What is served from the start; the first one is the default.
        make: Returns what serves an agent.
        max_versions: Most versions of one agent at a time.

    Raises:
        ConfigError: Two agents have one name, or one bundle.
    """

    def __init__(
        self, agents: Sequence[ServedAgent], make: Callable[[ServedAgent], Version], max_versions: int
    ) -> None:
        self._make = make
        self._max_versions = max_versions
        self._rollouts: dict[str, Rollout] = {}
        self._versions: dict[str, Version] = {}  # by digest
        self._draining = False
        self._dropped_steps = self._dropped_batches = 0
        for served in agents:
            if served.name in self._rollouts:
                raise ConfigError(
                    f"two bundles are called {served.name}; serve versions of one agent from a folder (--agents)"
                )
            self.appoint(served.name, Rollout(self.add(served)))

    def __iter__(self) -> Iterator[str]:
        """Names of the agents, the default one first."""
        return iter(self._rollouts)

    @property
    def versions(self) -> list[Version]:
        """Every version that is loaded."""
        return list(self._versions.values())

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down: no new episode begins."""
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining
        for version in self._versions.values():
            version.stepper.draining = draining

    @property
    def num_batches(self) -> int:
        """Runs of the networks so far, of all versions."""
        return self._dropped_batches + sum(version.stepper.num_batches for version in self._versions.values())

    @property
    def num_steps(self) -> int:
        """Events answered so far, repeats left out."""
        return self._dropped_steps + sum(version.stepper.num_steps for version in self._versions.values())

    def rollout(self, agent: str = "") -> Rollout:
        """Return the rollout of an agent; without a name, of the default one.

        Raises:
            AgentUnknownError: There is none of that name.
        """
        found = self._rollouts.get(agent or next(iter(self._rollouts)))
        if found is None:
            raise AgentUnknownError(f"no agent is called {agent}; this server has {', '.join(self._rollouts)}")
        return found

    def of(self, session: Session | None) -> Version:
        """Return what steps a session; of none, what would step a new one of the default agent."""
        return self.rollout().current if session is None else self._versions[session.bundle_digest]

    def find(self, digest: str) -> Version | None:
        """Return the version whose bundle this is, if it is loaded."""
        return self._versions.get(digest)

    def role(self, version: Version) -> Role:
        """Return what a version is loaded for."""
        rollout = self._rollouts.get(version.agent.name)
        return Role.LEAVING if rollout is None else rollout.role(version)

    def of_agent(self, agent: str) -> list[Version]:
        """Return the loaded versions of an agent."""
        return [version for version in self._versions.values() if version.agent.name == agent]

    def check_room(self, agent: str) -> None:
        """Refuse one more version of an agent that has its most (RolloutError)."""
        if len(loaded := self.of_agent(agent)) >= self._max_versions:
            raise RolloutError(
                f"{agent} has {len(loaded)} versions loaded, the most ({', '.join(one.name for one in loaded)}); "
                "wait until sessions of old ones end, or raise --max-versions"
            )

    def check_name(self, agent: str, version: str, digest: str) -> None:
        """Refuse a bundle under a name that is another one's (RolloutError): the link could lead to either of them."""
        for loaded in self.of_agent(agent):
            if loaded.name == version and loaded.digest != digest:
                raise RolloutError(
                    f"{agent} {version} is loaded already, as another bundle ({loaded.digest[:12]}, and in the folder "
                    f"is {digest[:12]} now); publish this one under another name"
                )

    def add(self, served: ServedAgent) -> Version:
        """Load a version, for its agent's rollout or for sessions that are pinned to it.

        Raises:
            RolloutError: The agent has its most versions, or what clients of it see or do would be something else.
            ConfigError: Another agent has this bundle.
        """
        known = self._versions.get(served.digest)
        if known is not None:
            if known.agent.name == served.name:
                return known
            raise ConfigError(f"{served.name} and {known.agent.name} are one bundle, {served.digest[:12]}")
        self.check_room(served.name)
        if served.name in self._rollouts:
            _check_contract(self._rollouts[served.name].current, served)
        version = self._make(served)
        version.stepper.draining = self._draining
        self._versions[served.digest] = version
        return version

    def appoint(self, agent: str, rollout: Rollout) -> None:
        """Let new sessions of an agent open as a rollout says; its versions are loaded."""
        self._rollouts[agent] = rollout

    def drop_idle(self, num_on: Mapping[str, int]) -> list[Version]:
        """Drop the versions that nobody needs any more; return them.

        Args:
            num_on: Sessions of each bundle, by digest.
        """
        wanted = {version.digest for rollout in self._rollouts.values() for version in rollout}
        idle = [
            version
            for digest, version in self._versions.items()
            if digest not in wanted and not num_on.get(digest) and not version.num_users
        ]
        for version in idle:
            del self._versions[version.digest]
            self._dropped_steps += version.stepper.num_steps
            self._dropped_batches += version.stepper.num_batches
        self._stop(idle)
        return idle

    def stop(self) -> None:
        """Let the threads of all networks go."""
        self._stop(self._versions.values())

    @staticmethod
    def _stop(versions: Iterable[Version]) -> None:
        for version in versions:
            version.stepper.move_on = None
            version.stepper.stop()


def _check_contract(current: Version, served: ServedAgent) -> None:
    """Refuse a version that clients of the agent cannot go on with."""
    manifest, agent = served.manifest, current.agent
    for what, ours, given in (
        ("family", agent.family, manifest.family),
        ("observation", agent.observation, manifest.observation),
        ("action", agent.action, manifest.action),
    ):
        if ours != given:
            raise RolloutError(
                f"{served.name} {served.version} has another {what} than {current.name}, which clients of "
                f"{served.name} know; serve it as an agent of another name"
            )
