"""Versions that sessions of an earlier server, or of another one, go on with: found by their bundle, or loaded once."""

import asyncio
from collections.abc import Callable
from typing import Any

from ccm_runtime.adapt import Adapter
from ccm_runtime.errors import CcmError, RolloutError
from ccm_runtime.patience import Patience
from ccm_runtime.roster import Roster
from ccm_runtime.versions import ServedAgent, Version


class Recall:
    """Finds what steps the sessions of a bundle, by its digest. One that is refused leaves its sessions at rest.

    Attributes:
        load: Returns the version with a bundle of this digest, if it can be loaded; on a thread.

    Args:
        roster: What is loaded, and takes in what is found.
        patience: Gives up what takes too long to load.
        log: Is told what is refused.
    """

    def __init__(self, roster: Roster, patience: Patience, log: Any) -> None:
        self.load: Callable[[str], ServedAgent | None] = lambda _: None
        self._roster = roster
        self._patience = patience
        self._log = log
        self._loading: dict[str, asyncio.Task[ServedAgent | None]] = {}  # by digest

    def adapter(self, digest: str) -> Adapter | None:
        """Return the adapter of a bundle, loaded while all else waits: for a server that starts."""
        version = self._roster.find(digest) or self._added(self._awaited(digest))
        return None if version is None else version.adapter

    async def version(self, digest: str) -> Version | None:
        """Return what steps sessions of a bundle; one that is not loaded yet is, once, beside the event loop."""
        version = self._roster.find(digest)
        if version is not None:
            return version
        loading = self._loading.get(digest)
        if loading is None:
            loading = self._loading[digest] = asyncio.create_task(self._loaded(digest))
            loading.add_done_callback(lambda _: self._loading.pop(digest))
        served = await asyncio.shield(loading)
        return self._roster.find(digest) or self._added(served)  # it may have been dropped again meanwhile

    async def _loaded(self, digest: str) -> ServedAgent | None:
        """Load a version and take it in at once: whoever comes for it from now on need not load it."""
        try:
            served = await self._patience.run(*self._job(digest))
        except CcmError as error:
            self._refuse(digest, error)
            return None
        self._added(served)
        return served

    def _awaited(self, digest: str) -> ServedAgent | None:
        try:
            return self._patience.wait(*self._job(digest))
        except RolloutError as error:
            self._refuse(digest, error)
            return None

    def _job(self, digest: str) -> tuple[str, str, Callable[[], ServedAgent | None]]:
        return f"bundle {digest[:12]}", "loading it", lambda: self.load(digest)

    def _refuse(self, digest: str, error: CcmError) -> None:
        self._log.error("version refused", bundle=digest[:12], why=str(error))

    def _added(self, served: ServedAgent | None) -> Version | None:
        if served is None:
            return None
        try:
            return self._roster.add(served)
        except CcmError as error:  # its sessions rest until it is served again
            self._log.error("version refused", agent=served.name, version=served.version, why=str(error))
            return None
