"""When something was stored, such that its age can be told after a restart, and after somebody has set the clock."""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """A time by two clocks: the wall's, which anyone may set, and the time since the machine's boot.

    Attributes:
        wall_s: Since 1970.
        boot_id: Names the boot; empty where the system does not tell.
        since_boot_s: Since that boot.
    """

    wall_s: float
    boot_id: str = ""
    since_boot_s: float = 0.0

    @classmethod
    def now(cls) -> Self:
        """Return this moment."""
        return cls(time.time(), _boot_id(), time.monotonic())

    def age_s(self, now: "Moment") -> float:
        """Return how long ago this was, never negative; the wall clock decides only after a reboot."""
        if self.boot_id and self.boot_id == now.boot_id:
            return max(0.0, now.since_boot_s - self.since_boot_s)
        return max(0.0, now.wall_s - self.wall_s)


@cache
def _boot_id() -> str:
    """Name of the boot that `time.monotonic` counts from; only Linux tells, and counts so for every process."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
