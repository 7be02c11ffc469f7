"""A folder of agents, as an operator lays it out and a server reads it.

    AGENTS/
      walker/               an agent, by the name that clients call it by
        v6/  v7/            bundles: its versions
        current -> v7       a link: what new sessions open with, now and after a restart
        rollout.json        the server's own: the candidate and its share, the version before

A version is published by renaming a complete bundle into its agent's folder, and made current by switching the link;
both are atomic. What begins with a dot is passed over. An agent with one version needs no link.
"""

import os
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ccm_runtime.bundle import MANIFEST
from ccm_runtime.crash_points import reach
from ccm_runtime.durable import sync_folder
from ccm_runtime.errors import AgentUnknownError, ConfigError
from ccm_runtime.kept_rollout import KeptRollout, read, write

CURRENT = "current"
# Names of agents and versions; nothing that a path could leave the folder with.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Library:
    """The agents in a folder. Names may come from the network: whatever is no plain name is unknown.

    Attributes:
        folder: Its absolute path.

    Raises:
        ConfigError: There is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        if not self.folder.is_dir():
            raise ConfigError(f"agents: expected a folder with AGENT/VERSION/ for every bundle, got {folder}")

    @property
    def agents(self) -> list[str]:
        """Names of the agents."""
        return _folders(self.folder)

    def versions(self, agent: str) -> list[str]:
        """Return the names of an agent's versions."""
        return _folders(self.folder / _plain(agent, "agent", self.agents))

    def current(self, agent: str) -> str:
        """Return the name of the version that new sessions of an agent open with.

        Raises:
            ConfigError: Nothing says which.
        """
        found = self.versions(agent)
        link = self.folder / agent / CURRENT
        try:
            named = os.readlink(link).rstrip("/")  # noqa: PTH115 (a Path would lose what is no plain name)
        except OSError:
            if len(found) == 1:
                return found[0]
            if not found:
                raise ConfigError(f"agents: expected VERSION/ with a bundle in {link.parent}, found none") from None
            raise ConfigError(
                f"{agent} has the versions {', '.join(found)} and no link {CURRENT} to one of them; say which: "
                f"ln -s VERSION {link}"
            ) from None
        if named not in found:
            raise ConfigError(f"{link} leads to {named}; expected one of {', '.join(found) or '(none)'}")
        return named

    def path(self, agent: str, version: str) -> Path:
        """Return the folder of a version.

        Raises:
            AgentUnknownError: There is none.
        """
        return self.folder / agent / _plain(version, f"version of {agent}", self.versions(agent))

    def digest(self, agent: str, version: str) -> str | None:
        """Return the digest of a version's bundle, unchecked; `None`: it has no manifest."""
        try:
            return sha256((self.path(agent, version) / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            return None

    def find(self, digest: str) -> tuple[str, str] | None:
        """Return the agent and the version that have this digest."""
        everything = ((agent, version) for agent in self.agents for version in self.versions(agent))
        return next((found for found in everything if self.digest(*found) == digest), None)

    def make_current(self, agent: str, version: str) -> None:
        """Switch an agent's link, all or nothing; once this returns, it outlives the machine.

        Raises:
            AgentUnknownError: There is no such version.
            ConfigError: The folder cannot be written to.
        """
        folder = self.path(agent, version).parent
        fresh = folder / f".{CURRENT}"
        reach("swap.begun")
        try:
            fresh.unlink(missing_ok=True)  # of a server that died
            fresh.symlink_to(version)
            reach("swap.linked")
            fresh.replace(folder / CURRENT)
            reach("swap.renamed")
            sync_folder(folder)
        except OSError as error:
            raise ConfigError(
                f"cannot make {version} current for {agent}: {folder} cannot be written to ({error.strerror})"
            ) from None
        reach("swap.on-disk")

    def keep(self, agent: str, rollout: KeptRollout) -> None:
        """Keep an agent's rollout for the next server; raises ConfigError if the folder cannot be written to."""
        write(self.folder / _plain(agent, "agent", self.agents), rollout)
        reach("swap.kept")

    def kept(self, agent: str, say: Callable[[str], None]) -> KeptRollout | None:
        """Return what an earlier server kept of an agent's rollout; `say` is told of a damaged file."""
        return read(self.folder / _plain(agent, "agent", self.agents), say)


def _folders(folder: Path) -> list[str]:
    """Return the plain names of the folders in a folder; links are not followed."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror}") from None
    return sorted(name for name in names if _NAME.fullmatch(name) and name != CURRENT)


def _plain(name: str, what: str, known: list[str]) -> str:
    if name not in known:
        shown = name if _NAME.fullmatch(name) else "(no plain name)"
        raise AgentUnknownError(f"no {what} is called {shown}; there is {', '.join(known) or 'none'}")
    return name
