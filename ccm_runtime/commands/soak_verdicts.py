"""What a soak has found, window by window, and whether anything grows. Pure arithmetic."""

from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import NamedTuple

_WARM = 0.1  # share of the windows that memory and caches have to fill up in
_FEW_STEPS = 100_000  # of fewer, warming up cannot be told from growing


class Window(NamedTuple):
    """What was seen of the server after a stretch of steps.

    Attributes:
        steps: Steps since the beginning.
        per_s: Steps a second.
        p50_ms: Median time of a step.
        p99_ms: Its 99th percentile.
        cpu_us: Processor time of the server, a step.
        own_us: Processor time of the robots, a step. Theirs is the same work each time: it tells the machine's pace.
        resident_mb: Memory that it holds.
        descriptors: Files and sockets that it has open.
        threads: Its threads.
        tasks: Tasks of its event loop.
        sessions: Sessions that it holds.
        store_mb: What its store takes up; 0: it has none.
        trials: Trials that have ended since the beginning.
    """

    steps: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    own_us: float
    resident_mb: float
    descriptors: float
    threads: float
    tasks: float
    sessions: float
    store_mb: float
    trials: int


class Verdict(NamedTuple):
    """One law, what was found, and its bound; `held` is `None` where the soak was too short to tell."""

    law: str
    found: float
    bound: float
    held: bool | None


def verdicts(windows: Sequence[Window]) -> list[Verdict]:
    """Judge a soak; `found` may be at most `bound`, windows before the server is warm left out."""
    warm = windows[int(_WARM * len(windows)) :]
    long_enough = warm[-1].steps - warm[0].steps >= _FEW_STEPS
    judged = [
        _judge("memory, MB in 100,000 steps", _slope([(w.steps / 1e5, w.resident_mb) for w in warm]), 1.0, long_enough),
        _judge("descriptors, more at the end", _rise(warm, lambda w: w.descriptors), 0.0, long_enough),
        # gRPC adds a thread to its own pool when one is held up, and lets it go again.
        _judge("threads, more at the end", _rise(warm, lambda w: w.threads), 2.0, long_enough),
        _judge("tasks, more at the end", _rise(warm, lambda w: w.tasks), 0.0, long_enough),
        _judge("sessions, more at the end", _rise(warm, lambda w: w.sessions), 0.0, long_enough),
        _judge("p99 at the machine's pace, drift", _drift(warm, lambda w: w.p99_ms / w.own_us), 0.1, long_enough),
        _judge("processor time at its pace, drift", _drift(warm, lambda w: w.cpu_us / w.own_us), 0.1, long_enough),
    ]
    if windows[-1].store_mb:
        judged.append(_judge("store, more MB at the end", _fuller(warm), 1.0, long_enough))
    return judged


def _judge(law: str, found: float, bound: float, can_tell: bool = True) -> Verdict:  # noqa: FBT001, FBT002
    return Verdict(law, round(found, 3), bound, found <= bound if can_tell else None)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least squares line; 0 of a single place."""
    middle_x, middle_y = mean(x for x, _ in points), mean(y for _, y in points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def _ends(windows: Sequence[Window], of: Callable[[Window], float]) -> tuple[float, float]:
    """Return the medians of the first and of the last third: one bad moment of the machine decides nothing."""
    third = max(1, len(windows) // 3)
    return median(map(of, windows[:third])), median(map(of, windows[-third:]))


def _fuller(windows: Sequence[Window]) -> float:
    """Return how much more the store takes up at its fullest: its log grows and is emptied again."""
    third = max(1, len(windows) // 3)
    return max(w.store_mb for w in windows[-third:]) - max(w.store_mb for w in windows[:third])


def _rise(windows: Sequence[Window], of: Callable[[Window], float]) -> float:
    first, last = _ends(windows, of)
    return last - first


def _drift(windows: Sequence[Window], of: Callable[[Window], float]) -> float:
    first, last = _ends(windows, of)
    return last / first - 1.0 if first else 0.0
