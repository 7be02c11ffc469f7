"""Who may come in: so many calls at a time; whoever is one too many is told when to come again.

Those who are told the same moment would all come back at that moment, and refusing them would be all that a server
does. So each is given a turn of its own, as if they stood in a queue.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ccm_runtime.errors import ServerBusyError

FIRST_TURN_S = 1.0
LAST_TURN_S = 30.0
TURNS_PER_S = 400.0  # a refusal costs about a third of a millisecond, so that a crowd takes a tenth of a core


class Admission:
    """Counts calls that are under way.

    Args:
        max_calls: Most of them at a time.
        clock: Seconds that never jump.
    """

    def __init__(self, max_calls: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_calls = max_calls
        self._clock = clock
        self._num_calls = 0
        self._last_turn_s = clock()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a call while it is under way, or refuse it (ServerBusyError)."""
        if self._num_calls >= self._max_calls:
            raise ServerBusyError(
                f"the server has {self._max_calls} calls under way, its maximum; try again later", self._turn_after_s()
            )
        self._num_calls += 1
        try:
            yield
        finally:
            self._num_calls -= 1

    def _turn_after_s(self) -> float:
        """Return how long it is until the next free turn, and take it; the last one is never taken."""
        now_s = self._clock()
        turn_s = min(max(now_s + FIRST_TURN_S, self._last_turn_s + 1.0 / TURNS_PER_S), now_s + LAST_TURN_S)
        self._last_turn_s = turn_s
        return turn_s - now_s
