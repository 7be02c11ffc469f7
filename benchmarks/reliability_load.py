"""The full figures of load and time; the tests run the same campaigns in short.

    python benchmarks/reliability_load.py --out benchmarks/results/reliability
    python benchmarks/reliability_load.py --out figures held_sessions storm

Each campaign writes one file: what was done, how often, and what must be 0 or empty. It ends with 1 if anything is not.
A storm needs as many file descriptors as clients: `ulimit -n 20000`.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaigns import Result, run_campaigns

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import crowds

from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.embedded import embedded_bundle

_LIMIT_S = 60.0
_KB_EACH = 40.0


def server(**settings: int) -> Any:
    """`ccm serve` as a process."""
    flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return listening_process("ccm_runtime", "serve", "--port", "0", "--drain-s", "0", "--log-level", "error", *flags)


def held_sessions(seed: int) -> Result:  # noqa: ARG001 (nothing is random)
    """D21: hold 10,000 sessions, and 10,000 streams."""
    with server(max_sessions=20_000, idle_limit_s=86_400) as ours:
        held = crowds.held(ours, 10_000)
    with server(max_sessions=20_000, max_calls=20_000) as ours:
        attached = asyncio.run(crowds.attached(ours, 10_000))
    return {
        "what": "10,000 sessions that stand between two steps; 10,000 streams, 500 on each connection",
        "held": held,
        "attached_streams": attached,
        "must_be_none": {
            "unanswered": held["unanswered"] + attached["unanswered"],
            "over 40 KB each": max(0.0, held["kb_each"] - _KB_EACH),
        },
    }


def opened_and_closed(seed: int) -> Result:  # noqa: ARG001 (nothing is random)
    """D23: open and close 100,000 sessions."""
    with server() as ours:
        found = crowds.opened_and_closed(ours, 100_000)
    return {
        "what": "100,000 sessions, one after the other: opened, stepped, closed",
        **found,
        "must_be_none": {
            "unanswered": found["unanswered"],
            "memory, over 1 MB in 100,000": max(0.0, found["mb_in_100000"] - 1.0),
        },
    }


def storm(seed: int) -> Result:  # noqa: ARG001 (the clients draw their own jitter)
    """C17: 10,000 clients come at once, and come back at once after a restart; a connection each."""
    found = asyncio.run(crowds.storms(embedded_bundle(), 10_000, 4))
    return {
        "what": "10,000 connects at once; `kill -9`; 10,000 reconnects at once to the restarted server and its store",
        **found,
        "must_be_none": late_or_refused(found["come"], found["back_after_a_restart"]),
    }


def storm_of_visits(seed: int) -> Result:  # noqa: ARG001 (the clients draw their own jitter)
    """C17: 10,000 clients come at once to a server that takes 256 calls at a time."""
    found = asyncio.run(crowds.visits(embedded_bundle(), 10_000, 4, 256))
    return {
        "what": "10,000 clients at once, 256 calls at a time: the others are told when to come again",
        **found,
        "must_be_none": late_or_refused(found),
    }


def late_or_refused(*blows: Result) -> dict[str, Any]:
    """What may not be: anything but an answer, or one after a minute."""
    return {
        "not answered": {why: num for blow in blows for why, num in blow["outcomes"].items() if why != "answered"},
        "seconds over 60": max(0.0, max(blow["seconds"] for blow in blows) - _LIMIT_S),
    }


CAMPAIGNS: dict[str, Callable[[int], Result]] = {
    "held_sessions": held_sessions,
    "opened_and_closed": opened_and_closed,
    "storm": storm,
    "storm_of_visits": storm_of_visits,
}

if __name__ == "__main__":
    run_campaigns(__doc__, CAMPAIGNS, "numpy", "grpcio", "onnxruntime")
