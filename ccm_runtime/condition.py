"""Whether a server can do its work, for probes: a restart when nothing else helps, no new clients until it is well.

What is said here is for whoever may ask a probe, without a token: it names agents, and nothing of the machine.
"""

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass

from ccm_runtime.errors import StoreUnavailableError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.roster import Roster
from ccm_runtime.versions import Version

# Networks answer in milliseconds; what has not come back after this long hangs in a driver.
STUCK_S = 10.0
# An event loop turns many times a millisecond; a probe waits no longer for it than this.
LOOP_LIMIT_S = 1.5


@dataclass(frozen=True, slots=True)
class Condition:
    """What is wrong with a server, in lines; empty: nothing.

    Attributes:
        dead: What only a restart mends.
        away: Why new sessions do not open here for now.
        degraded: What is not as it should be though all is served.
    """

    dead: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether to let it go on."""
        return not self.dead

    @property
    def ready(self) -> bool:
        """Whether to send it clients."""
        return not self.dead and not self.away


def condition_of(roster: Roster, group_commit: GroupCommit | None) -> Condition:
    """Return how a server is, as far as its agents and its store know; from any thread."""
    versions = roster.versions
    lost = [f"{_named(one)}: its GPU failed; start the server again" for one in versions if one.device == "lost"]
    stuck = [
        f"{_named(one)}: its networks have not answered for {one.stepper.busy_s:.0f} s; start the server again"
        for one in versions
        if one.stepper.busy_s > STUCK_S
    ]
    away = ["the server is shutting down"] if roster.draining else []
    degraded = [
        f"{_named(one)}: its GPU failed, and it goes on with the CPU"
        for one in versions
        if one.failure and one.device != "lost"
    ]
    if group_commit is not None and not group_commit.well:
        try:
            group_commit.check()
        except StoreUnavailableError as error:
            away.append(str(error))
        else:
            degraded.append("the store fails, and sessions go on without it; they are not durable now")
    return Condition((*lost, *stuck), tuple(away), tuple(degraded))


def acts(version: Version) -> bool:
    """Whether a version can still answer events."""
    return version.device != "lost" and version.stepper.busy_s <= STUCK_S


def turns(loop: asyncio.AbstractEventLoop, limit_s: float = LOOP_LIMIT_S) -> bool:
    """Return whether an event loop answers in time; from another thread."""
    turned = threading.Event()
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(turned.set)
    return turned.wait(limit_s)


def _named(version: Version) -> str:
    return f"{version.agent.name} {version.name}"
