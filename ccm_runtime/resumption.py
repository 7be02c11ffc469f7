"""Go on with what an earlier server did: its rollouts, the sessions of its versions, and the moves of those."""

from collections.abc import Callable
from functools import partial

from ccm_runtime.errors import CcmError
from ccm_runtime.hosting import Hosting
from ccm_runtime.kept_rollout import KeptVersion
from ccm_runtime.library import Library
from ccm_runtime.releases import say_damaged, say_not_kept, say_rollout
from ccm_runtime.versions import Move, Rollout, ServedAgent, Version


class Resumption:
    """What a server that starts takes over, in this order: `rollouts`, then the sessions (`recall`), then `moves`.

    Args:
        hosting: Its agents and their sessions.
        library: Where the versions are; `None`: they do not change, and there is nothing to take over.
        prepared: Returns a version, loaded and warm.
    """

    def __init__(self, hosting: Hosting, library: Library | None, prepared: Callable[[str, str], ServedAgent]) -> None:
        self._roster, self._log, self._patience = hosting.roster, hosting.log, hosting.patience
        self._library = library
        self._prepared = prepared
        self._moving: dict[str, set[str]] = {}  # by agent: bundles whose sessions an earlier server was to move

    def rollouts(self) -> None:
        """Go on with the rollouts that the folder keeps; call it once, before the first session is opened.

        A version that cannot be loaded any more is told and left out: new sessions then open with the current one.

        Raises:
            RolloutError: What the folder keeps cannot be read, as it hangs.
        """
        library = self._library
        if library is None:
            return
        log, roster, wait = self._log, self._roster, self._patience.wait
        for agent in roster:
            folder = str(library.folder / agent)
            kept = wait(folder, "reading its rollout", partial(library.kept, agent, partial(say_damaged, log)))
            if kept is None:
                continue
            current = roster.rollout(agent).current
            holds = kept.under(current.name, current.digest)
            if holds is not kept:
                left = kept.candidate and kept.candidate.name
                told = {"current": current.name, "was": kept.current.name, "candidate": left}
                if current.name == kept.current.name:
                    told["why"] = _another(current.digest, kept.current)
                log.warning("rollout not resumed", agent=agent, **told)
                try:
                    wait(folder, "keeping its rollout", partial(library.keep, agent, holds))
                except CcmError as error:
                    say_not_kept(log, agent, error)
            candidate = self._resumed(agent, holds.candidate, "candidate")
            previous = self._resumed(agent, holds.previous, "version before")
            after = Rollout(current, previous, candidate, 0.0 if candidate is None else holds.share)
            roster.appoint(agent, after)
            self._moving[agent] = set(holds.moving)
            say_rollout(log, agent, after)

    def moves(self) -> None:
        """Let sessions of an earlier server move as they were to; call it once, after they were recovered."""
        roster = self._roster
        for agent, moving in self._moving.items():
            current = roster.rollout(agent).current
            leaving = [one for one in roster.of_agent(agent) if one.digest in moving and one is not current]
            if leaving:
                moved = Move(current, current.adapter.start()).moved
                for version in leaving:
                    version.stepper.move_on = moved

    def recall(self, digest: str) -> ServedAgent | None:
        """Return the version with a bundle of this digest, for sessions of an earlier server; `None`: there is none."""
        found = None if self._library is None else self._library.find(digest)
        if found is None:
            return None
        try:
            return self._prepared(*found)
        except CcmError as error:
            self._log.error("version refused", agent=found[0], version=found[1], why=str(error))
            return None

    def _resumed(self, agent: str, kept: KeptVersion | None, role: str) -> Version | None:
        """Return a version that an earlier server had; `None`, and a line in the log: it is not what it was."""
        if kept is None:
            return None
        try:
            read = partial(self._prepared, agent, kept.name)
            served = self._patience.wait(f"{agent} {kept.name}", "reading its bundle", read)
            if served.digest == kept.digest:
                version = self._roster.add(served)
                return None if version is self._roster.rollout(agent).current else version
            why = _another(served.digest, kept)
        except CcmError as error:
            why = str(error)
        event = f"{role} not resumed"
        self._log.error(event, agent=agent, version=kept.name, why=why)
        return None


def _another(digest: str, was: KeptVersion) -> str:
    """Say that a version is not the bundle that it was."""
    return f"it is another bundle now, {digest[:12]}, and was {was.digest[:12]}"
