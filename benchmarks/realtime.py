"""The full figures of what a robot relies on; the tests run the same campaigns in short.

    python benchmarks/realtime.py --out benchmarks/results/reliability
    python benchmarks/realtime.py --out figures deadline guard

Each campaign writes one file: what was done, how often, and what must be 0 or empty. It ends with 1 if anything is not.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from campaigns import Result, run_campaigns
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import drains
import hostile_model
import isolation
import silence

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.belief import Array, Folded, Transitions
from ccm_runtime.config import ServerConfig
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.manifest import Adaptation
from ccm_runtime.messages import Intervention
from ccm_runtime.testing import ScriptedPolicy, serving

_DEADLINE_MS, _GRACE_MS = 10.0, 5.0


class Stalling(ScriptedPolicy):
    """Whose encoder takes twice the deadline for every run."""

    def fold(self, belief: Array, transitions: Transitions) -> Folded:
        """As ever, but late."""
        time.sleep(2 * _DEADLINE_MS / 1000)
        return super().fold(belief, transitions)


def deadline(seed: int) -> Result:
    """Take 10,000 steps while every run of the networks takes twice the deadline."""
    steps, timers = asyncio.run(_stalled_steps(10_000, seed))
    spent_ms, timer_ms = np.array(steps), np.array(timers)
    beyond = spent_ms > _DEADLINE_MS + _GRACE_MS
    return {
        "what": f"{len(spent_ms)} steps over gRPC, deadline {_DEADLINE_MS:g} ms, networks that take twice as long",
        "share_within_deadline_and_5_ms": float(1.0 - beyond.mean()),
        "ms_from_arrival_to_answer": _percentiles(spent_ms),
        "of_a_bare_timer_in_the_same_process": {
            "share_within_deadline_and_5_ms": float(1.0 - (timer_ms > _DEADLINE_MS + _GRACE_MS).mean()),
            "ms": _percentiles(timer_ms),
        },
        "must_be_none": {"more_than_one_in_a_thousand_too_late": int(beyond.mean() > 0.001)},
    }


def _percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    points = (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("max", 100))
    return {name: round(float(np.percentile(values, point)), 2) for name, point in points}


async def _stalled_steps(num: int, seed: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each step, and of bare timers of the same length in between: what the machine itself is worth."""
    policy = Stalling(Adaptation(explore_episodes=1, episodes=2, horizon=50))
    config = ServerConfig(port=0, log_level="error", action_deadline_ms=_DEADLINE_MS, max_misses=10**9)
    draw, spent_ms, timer_ms = np.random.default_rng(seed), [], []
    async with serving(policy, config) as address, AsyncClient(address) as client, client.open_session() as session:
        while len(spent_ms) < num:
            if session.episode_over:
                for _ in range(10):
                    began_s = time.perf_counter()
                    await asyncio.sleep(_DEADLINE_MS / 1000)
                    timer_ms.append((time.perf_counter() - began_s) * 1000)
                await session.begin_episode(draw.normal(size=2))
                continue
            await session.act(draw.normal(size=2), 1.0)
            answer = session.answer
            if answer is not None and answer.reaction.action is not None:
                if Intervention.LATE not in answer.reaction.interventions:
                    raise RuntimeError("the networks were in time, which they cannot be")
                spent_ms.append(answer.total_ms)
    return spent_ms, timer_ms


def guard(seed: int) -> Result:
    """Let hostile models propose 100,000 actions for actuators of many kinds."""
    found = hostile_model.campaign(100_000, seed)
    return {
        "what": "not finite, out of bounds and too fast actions, checked against bounds and the previous command",
        "actions": found["actions"],
        "interventions": found["interventions"],
        "must_be_none": {"violations": found["num_violations"]},
    }


def silent_servers(seed: int) -> Result:
    """Stop, kill and cut off `ccm serve` under a robot that never waits."""
    cases = {}
    for kind in ("stopped", "killed", "half-open"):
        with tempfile.TemporaryDirectory() as folder:
            cases[kind] = asyncio.run(silence.campaign(kind, embedded_bundle(), Path(folder), 10, seed, between=320))
    names = ("late", "stale", "beliefs_differing", "returns_differing")
    return {
        "what": f"10 silences of a server each; actions are valid for {silence.VALID_MS} ms",
        "cases": cases,
        "must_be_none": {name: sum(case[name] for case in cases.values()) for name in names},
    }


def paused(seed: int) -> Result:
    """Stop the process of `ccm serve` for 30 s under a robot that never waits, and let it go on."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(
            silence.campaign("stopped", embedded_bundle(), Path(folder), 2, seed, between=320, silent_s=30.0)
        )
    names = ("late", "stale", "beliefs_differing", "returns_differing")
    return {
        "what": f"SIGSTOP for 30 s, twice, then SIGCONT; actions are valid for {silence.VALID_MS} ms",
        "steps": found["steps"],
        "safe_actions": found["safe_actions"],
        "must_be_none": {name: found[name] for name in names},
    }


def drained(seed: int) -> Result:
    """Stop `ccm serve` by SIGTERM under 64 sessions, 20 times, and start it again."""
    with tempfile.TemporaryDirectory() as folder:
        alone = {"max-batch": 1}  # in a batch, the encoder's last bit may depend on who else is in it
        store = Path(folder) / "s.db"
        found = asyncio.run(drains.campaign(embedded_bundle(), store, 20, seed, num_sessions=64, **alone))
    names = ("not_said", "cut", "exit_codes", "differing", "beliefs_differing")
    return {
        "what": "SIGTERM under 64 sessions: NOT_SERVING, episodes end, exit code 0; a restart; the clients go on",
        "stops": found["stops"],
        "longest_s": found["longest_s"],
        "answers_compared": found["answers"],
        "must_be_none": {name: found[name] for name in names},
    }


def apart(seed: int) -> Result:
    """Cancel, repeat and reopen at random over 64 sessions, with and without a deadline."""
    cases = {
        name: asyncio.run(isolation.campaign(50_000, seed, deadline_ms))
        for name, deadline_ms in (("without a deadline", None), ("deadline of 5 ms, stalling networks", 5.0))
    }
    names = ("beliefs_of_another_story", "beliefs_that_are_equal")
    return {
        "what": "64 sessions on different tasks; callers give up at random, come again, close and reopen",
        "cases": cases,
        "must_be_none": {name: sum(case[name] for case in cases.values()) for name in names},
    }


CAMPAIGNS: dict[str, Callable[[int], Result]] = {
    "deadline": deadline,
    "guard": guard,
    "silent_servers": silent_servers,
    "isolation": apart,
    "paused_server": paused,
    "drained_server": drained,
}

if __name__ == "__main__":
    run_campaigns(__doc__, CAMPAIGNS, "numpy", "grpcio", "onnxruntime")
