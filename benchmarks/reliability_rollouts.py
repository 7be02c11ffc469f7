"""The full figures of what changing versions promises; the tests run the same campaigns in short.

    python benchmarks/reliability_rollouts.py --out benchmarks/results/reliability
    python benchmarks/reliability_rollouts.py --out figures hot_reload

`hot_reload` is `ccm serve` as a process under clients, with twelve bundles of the shipped networks in turn.
`swap_crash_points` kills a server's core while it changes versions, and looks at what a new one makes of it.
"""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from campaigns import Result, run_campaigns

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import reloads
import swaps

from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.crash_points import SWAP
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.machine import resident_mb

_MAX_GROWTH_MB = 20.0


def hot_reload(seed: int) -> Result:  # noqa: ARG001 (the clients' own seeds do not change)
    """D23: 1,000 hot reloads under 8 sessions without a pause."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        versions = reloads.variants(embedded_bundle(), folder, "robot", 12)
        flags = ("--agents", place, "--port", "0", "--max-versions", "8", "--drain-s", "0", "--log-level", "error")
        with listening_process("ccm_runtime", "serve", *flags) as server:
            look = partial(resident_mb, server.pid)
            campaign = reloads.campaign(server.address, "robot", versions, 1_000, look=look)
            found = asyncio.run(campaign)
    looks, failed = found.pop("looks"), found.pop("failed")
    grown_mb = round(looks[-1] - looks[1], 1)  # the first hundred fill what is filled once
    return {
        "what": "versions change without a pause; every step is answered, sessions stay with their bundle or say so",
        **found,
        "resident_mb_after_each_50": looks,
        "resident_mb_grown_from_100_to_1000": grown_mb,
        "must_be_none": {
            "failed_steps": failed[:20],
            f"grown by more than {_MAX_GROWTH_MB:g} MB": max(0.0, grown_mb - _MAX_GROWTH_MB),
        },
    }


def swap_crash_points(seed: int) -> Result:
    """A1: kill -9 at every point of the change of a version, with durable sessions on both versions."""
    runs = []
    for number, point in enumerate(SWAP):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(swaps.campaign(Path(folder), 12, seed + number, point))
    names = ("lost", "wrong", "missing", "no_current", "by_itself", "litter")
    return {
        "what": "kill -9 at a named point of a change of versions, at its 1st to 4th passing; then recovery",
        "points": list(SWAP),
        "kills": sum(run["kills"] for run in runs),
        "durable_events_acknowledged": sum(run["acknowledged"] for run in runs),
        "changes_that_took_hold": sum(run["switched"] for run in runs),
        "must_be_none": {name: sum(run[name] for run in runs) for name in names},
    }


CAMPAIGNS: dict[str, Callable[[int], Result]] = {"hot_reload": hot_reload, "swap_crash_points": swap_crash_points}

if __name__ == "__main__":
    run_campaigns(__doc__, CAMPAIGNS, "grpcio", "onnxruntime")
