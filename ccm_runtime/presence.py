"""A clock of the time that a process was there: while it is frozen, nobody is idle.

A process may be stopped, or its machine paused, for longer than sessions may be idle. Its clients could not be heard.
"""

import threading
import time
from collections.abc import Callable


class Presence:
    """Seconds that this process was there. It is asked now and then, also while nobody calls; from any thread.

    Args:
        longest_s: More than this between two looks, and the process was away meanwhile; that does not count.
        clock: Seconds that never jump.
    """

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_s = longest_s
        self._clock = clock
        self._looked_s = clock()
        self._there_s = 0.0
        self._looking = threading.Lock()

    def __call__(self) -> float:
        """Look at the clock; the seconds so far."""
        with self._looking:
            now_s = self._clock()
            gone_s, self._looked_s = now_s - self._looked_s, now_s
            if gone_s <= self._longest_s:
                self._there_s += gone_s
            return self._there_s
