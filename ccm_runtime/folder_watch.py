"""Follow a folder of agents: load every version that it says is current."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ccm_runtime.errors import CcmError
from ccm_runtime.hosting import Hosting
from ccm_runtime.library import Library
from ccm_runtime.releases import Releases

T = TypeVar("T")


class FolderWatch:
    """Looks at a folder for versions that somebody has made current there.

    Args:
        hosting: The agents that are served.
        releases: What changes their versions.
        library: The folder.
    """

    def __init__(self, hosting: Hosting, releases: Releases, library: Library) -> None:
        self._roster, self._patience, self._log = hosting.roster, hosting.patience, hosting.log
        self._releases = releases
        self._library = library
        self._told: dict[str, str] = {}  # what a look found wrong, by agent: it is logged once

    async def look(self) -> None:
        """Load every version that the folder says is current and the server does not; what is wrong is logged once."""
        library = self._library
        folder = str(library.folder)
        listing = self._patience.run(folder, "listing its agents", lambda: library.agents)
        for agent in await self._tried(folder, listing) or ():
            await self._tried(agent, self._look_at(agent))

    async def _look_at(self, agent: str) -> None:
        """Load the version of an agent that the folder says is current, if the server does not."""
        library, roster = self._library, self._roster

        def found() -> tuple[str, str | None]:
            version = library.current(agent)
            return version, library.digest(agent, version)

        folder = str(library.folder / agent)
        version, digest = await self._patience.run(folder, "looking for its current version", found)
        if agent not in roster or roster.rollout(agent).current.digest != digest:
            await self._releases.follow(agent, version)

    async def _tried(self, agent: str, look: Coroutine[Any, Any, T]) -> T | None:
        """Return what a look returns; what is wrong with an agent, or the folder of all, is logged once."""
        try:
            seen = await look
        except CcmError as error:
            if self._told.get(agent) != str(error):
                self._told[agent] = str(error)
                self._log.error("version refused", agent=agent, why=str(error))
            return None
        self._told.pop(agent, None)
        return seen

    async def follow(self, every_s: float) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.look()
            except Exception as error:  # the watch outlives whatever it meets
                self._log.error("fault", exc_info=error)
