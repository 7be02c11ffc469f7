"""Change which version of an agent new sessions open with.

A change is made in this order: check the bundle, open and warm up its networks, switch the folder's link, and only then
let new sessions open with it. Whatever goes wrong before leaves everything as it was, and a server that dies in between
comes back with the version before or the version after. What the link does not say (a candidate and its share, the
version before) is kept beside it. Reading and warming up happen on a thread: sessions go on. What hangs is given up:
the changes that wait behind it go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from ccm_runtime.crash_points import reach
from ccm_runtime.errors import CcmError, ConfigError, ProviderUnavailableError, RolloutError
from ccm_runtime.hosting import Hosting
from ccm_runtime.kept_rollout import KeptRollout, KeptVersion
from ccm_runtime.library import Library
from ccm_runtime.memory import Memory
from ccm_runtime.patience import Patience
from ccm_runtime.versions import Move, Rollout, ServedAgent, Version

Read = Callable[[Path], ServedAgent]


class Releases:
    """Versions of the agents of a server, one change at a time.

    Args:
        hosting: The agents and their sessions.
        library: Where their versions are; `None`: they do not change.
        read: Returns what is served of a checked bundle.
        max_batch: Most sessions in one run of a network.
    """

    def __init__(self, hosting: Hosting, library: Library | None, read: Read, max_batch: int) -> None:
        self._hosting = hosting
        self._library = library
        self._read = read
        self._max_batch = max_batch
        self._changing = asyncio.Lock()
        self._under_way: set[asyncio.Task[Rollout]] = set()
        self._patience = hosting.patience
        hosting.judge.rolled_back = self._keep_rollback

    async def load(self, agent: str, version: str, *, share: float = 0.0, move: bool = False) -> Rollout:
        """Load a version and open new sessions with it: all of them or, as a candidate, a share of them.

        Args:
            agent: Its name; one that is not served yet is from now on.
            version: Its name.
            share: Of new sessions, 0 to 1; 0: all, and the version is current.
            move: Sessions of the other versions go on with this one, anew, when their episode ends.

        Raises:
            ConfigError: Versions do not change here, the folder cannot be written to, or the share is none.
            AgentUnknownError: There is no such version in the folder.
            BundleError: Its bundle is missing, damaged, or not signed.
            RolloutError: There is no room for it, another bundle is loaded under its name, its contract is another, a
                candidate is to replace nothing, or what it needs hangs.
        """
        return await self._load(agent, version, share=share, move=move)

    async def follow(self, agent: str, version: str) -> Rollout:
        """Load the version that the folder's link leads to already; raises what `load` raises."""
        return await self._load(agent, version, share=0.0, move=False, on_disk=False)

    async def _load(self, agent: str, version: str, *, share: float, move: bool, on_disk: bool = True) -> Rollout:
        _check_share(share, move=move)

        async def change() -> Rollout:
            loaded = await self._loaded(agent, version)
            reach("swap.loaded")
            rollout = self._rollout(agent)
            if not share:
                after = Rollout(loaded) if rollout is None else rollout.to(loaded)
                return await self._appoint(after, switch=True, move=move, on_disk=on_disk)
            if rollout is None:
                raise RolloutError(f"{agent} is not served yet, so nothing can be a candidate; load it whole")
            if loaded is rollout.current and loaded.name != version:
                raise RolloutError(
                    f"{agent} {version} is the same bundle as {loaded.name}, which is current; it cannot be a candidate"
                )
            return await self._appoint(rollout.trying(loaded, share))

        return await self._whole(change)

    async def promote(self, agent: str, *, move: bool = False) -> Rollout:
        """Open all new sessions with the candidate; raises RolloutError where there is none."""

        async def change() -> Rollout:
            return await self._appoint(self._hosting.roster.rollout(agent).promoted(), switch=True, move=move)

        return await self._whole(change)

    async def roll_back(self, agent: str, *, move: bool = False) -> Rollout:
        """Take the candidate back or, where there is none, the last change; raises RolloutError where none was made."""

        async def change() -> Rollout:
            before = self._hosting.roster.rollout(agent)
            after = before.rolled_back()
            return await self._appoint(after, switch=after.current is not before.current, move=move)

        return await self._whole(change)

    async def _whole(self, change: Callable[[], Awaitable[Rollout]]) -> Rollout:
        """Make a change after those before it; whoever asked for it may leave, it is finished all the same."""
        return await asyncio.shield(self._begin(change))

    def _begin(self, change: Callable[[], Awaitable[Rollout]]) -> asyncio.Task[Rollout]:
        async def alone() -> Rollout:
            async with self._changing:
                return await change()

        task = asyncio.create_task(alone())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _loaded(self, agent: str, version: str) -> Version:
        """Return a version, loaded and warm; its bundle is checked whole even where it is served already."""
        if self._library is None:
            raise ConfigError("this server's versions do not change; start it with `ccm serve --agents FOLDER`")
        roster = self._hosting.roster
        patience, subject, library = self._patience, f"{agent} {version}", self._library
        digest = await patience.run(subject, "finding its bundle", lambda: library.digest(agent, version))

        def read() -> ServedAgent:
            return read_version(library, self._read, agent, version)

        known = None if digest is None else roster.find(digest)
        if known is not None and known.agent.name == agent:
            with known.in_use():  # it is not dropped meanwhile
                await patience.run(subject, "reading its bundle", read)  # the manifest alone is known
            return known
        self._hosting.tidy()
        if digest is not None:
            roster.check_name(agent, version, digest)
        roster.check_room(agent)
        try:
            served = await patience.run(subject, "reading its bundle", read)
            await patience.run(subject, "warming it up", partial(self._warm_up, served))
        except ProviderUnavailableError as error:  # what runs already may go on
            raise RolloutError(f"{agent} {version} does not run on this server's device: {error}") from error
        return roster.add(served)

    def prepared(self, agent: str, version: str) -> ServedAgent:
        """Read a version and run its networks at every batch size; for a server that has a library."""
        assert self._library is not None, "only who has a library asks"  # noqa: S101 (our own invariant)
        served = read_version(self._library, self._read, agent, version)
        self._warm_up(served)
        return served

    def _warm_up(self, served: ServedAgent) -> None:
        served.warm_up(self._max_batch)

    async def _appoint(
        self, after: Rollout, *, switch: bool = False, move: bool = False, on_disk: bool = True
    ) -> Rollout:
        """Let a rollout take effect, first on disk and then here; what takes a candidate back, here at once."""
        hosting, current = self._hosting, after.current
        agent = current.agent.name

        def leaves(version: Version) -> bool:
            return version not in {current, after.candidate} and (move or version.stepper.move_on is not None)

        with ExitStack() as stack:
            for version in after:
                stack.enter_context(version.in_use())
            blank = await self._blank(current)
            if after.candidate is None and not switch:
                hosting.roster.appoint(agent, after)
            library = self._library
            if library is not None:
                if switch and on_disk:
                    make = partial(library.make_current, agent, current.name)
                    await self._on_disk(library, agent, "switching its link", make, switch=True)
                if on_disk or await self._keeps_another(library, agent, current):
                    moving = [version for version in hosting.roster.of_agent(agent) if leaves(version)]
                    await self._keep(library, agent, after, moving)
            hosting.roster.appoint(agent, after)
        for version in hosting.roster.of_agent(agent):
            version.stepper.move_on = Move(current, blank).moved if leaves(version) else None
        reach("swap.done")
        say_rollout(hosting.log, agent, after)
        hosting.tidy()
        return after

    async def _blank(self, version: Version) -> Memory:
        """Return what a trial is with a version before anything has happened; RolloutError: its networks hang."""
        limit_s = self._patience.limit_s
        try:
            async with asyncio.timeout(limit_s):
                return await version.stepper.beside(version.adapter.start)
        except TimeoutError:
            raise RolloutError(
                f"{version.agent.name} {version.name}: its networks have not answered for {limit_s:g} s; roll it back, "
                "or start the server again"
            ) from None

    async def _keeps_another(self, library: Library, agent: str, current: Version) -> bool:
        """Return whether what is kept is of another current version: the link was switched by hand, by no server."""
        read = partial(library.kept, agent, partial(say_damaged, self._hosting.log))
        kept = await self._patience.run(str(library.folder / agent), "reading its rollout", read)
        return kept is not None and kept.current != _kept(current)

    async def _keep(self, library: Library, agent: str, rollout: Rollout, moving: Sequence[Version]) -> None:
        """Keep a rollout for the next server; a candidate that cannot be kept is refused (ConfigError, RolloutError).

        Taking one back, or what the link says, holds though it cannot be kept.
        """
        kept = KeptRollout(
            current=_kept(rollout.current),
            previous=None if rollout.previous is None else _kept(rollout.previous),
            candidate=None if rollout.candidate is None else _kept(rollout.candidate),
            share=rollout.share,
            moving=tuple(version.digest for version in moving),
        )
        try:
            await self._on_disk(library, agent, "keeping its rollout", partial(library.keep, agent, kept))
        except CcmError as error:
            if kept.candidate is not None:
                raise
            say_not_kept(self._hosting.log, agent, error)

    async def _on_disk(
        self, library: Library, agent: str, doing: str, write: Callable[[], None], *, switch: bool = False
    ) -> None:
        """Write into an agent's folder; what is given up and written late is then written over."""
        late = partial(self._put_right, agent, switch=switch)
        await self._patience.run(str(library.folder / agent), doing, write, late)

    def _put_right(self, agent: str, *, switch: bool) -> None:
        """Let the folder of an agent say what this server does: something else was written into it, late."""

        async def again() -> Rollout:
            rollout = self._hosting.roster.rollout(agent)
            try:
                return await self._appoint(rollout, switch=switch)
            except CcmError as error:
                say_not_kept(self._hosting.log, agent, error)
                return rollout

        if agent in self._hosting.roster:
            self._begin(again)

    def _keep_rollback(self, agent: str) -> None:
        """Keep that a candidate was taken back, after the changes under way."""
        library = self._library
        if library is None:
            return

        async def keep() -> Rollout:
            roster = self._hosting.roster
            rollout = roster.rollout(agent)
            if rollout.candidate is None:  # else whoever has loaded another one has kept that
                moving = [version for version in roster.of_agent(agent) if version.stepper.move_on is not None]
                await self._keep(library, agent, rollout, moving)
            return rollout

        self._begin(keep)

    def _rollout(self, agent: str) -> Rollout | None:
        roster = self._hosting.roster
        return roster.rollout(agent) if agent in roster else None


def say_rollout(log: Any, agent: str, rollout: Rollout) -> None:
    """Log what new sessions of an agent open with."""
    names = {"candidate": rollout.candidate and rollout.candidate.name}
    log.info("rollout", agent=agent, current=rollout.current.name, **names, share=rollout.share)


def say_damaged(log: Any, line: str) -> None:
    """Log that what was kept of a rollout cannot be read."""
    log.warning("rollout damaged", what=line)


def say_not_kept(log: Any, agent: str, error: CcmError) -> None:
    """Log that the next server will not know of a rollout."""
    log.error("rollout not kept", agent=agent, why=str(error))


def read_version(library: Library, read: Read, agent: str, version: str) -> ServedAgent:
    """Return a version of a library under the names that its folder gives it."""
    served = read(library.path(agent, version))
    return ServedAgent(served.policy, served.manifest, served.digest, agent, version)


def served_from(library: Library, read: Read, patience: Patience) -> Sequence[ServedAgent]:
    """Return the current version of every agent in a library, for a server that starts.

    Raises:
        ConfigError: There is no agent, or nothing says which version of one is current.
        BundleError: A bundle is missing, damaged, or not signed.
        RolloutError: The folder or a bundle hangs.
    """

    def look() -> list[tuple[str, str]]:
        return [(agent, library.current(agent)) for agent in library.agents]

    found = patience.wait(str(library.folder), "looking for its agents", look)
    if not found:
        raise ConfigError(f"agents: expected AGENT/VERSION/ with a bundle in {library.folder}, found none")
    return [
        patience.wait(f"{agent} {version}", "reading its bundle", partial(read_version, library, read, agent, version))
        for agent, version in found
    ]


def _kept(version: Version) -> KeptVersion:
    return KeptVersion(name=version.name, digest=version.digest)


def _check_share(share: float, *, move: bool) -> None:
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"share: expected 0 to 1, got {share}")
    if share and move:
        raise ConfigError("a candidate gets new sessions alone; move the others when you promote it")
