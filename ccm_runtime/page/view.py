"""Take a view of a server, in one turn of its event loop: references to values that never change, and a few counts."""

import time
from collections.abc import Callable
from typing import Any

from ccm_runtime import __version__
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.metrics import BOUNDS_MS
from ccm_runtime.page.state import View

DIGEST_LENGTH = 12


def viewer(hosting: Hosting, served: ServedAgent, address: str, max_sessions: int) -> Callable[[], View]:
    """Return what takes views of a server.

    Args:
        hosting: What it hosts.
        served: The agent that the page is headed with.
        address: Where it listens, `HOST:PORT`.
        max_sessions: Most sessions that it holds.
    """
    agent, experience = hosting.agent, served.manifest.experience
    fixed = {
        "version": __version__,
        "address": address,
        "agent_id": agent.agent_id,
        "family": agent.family,
        "method": agent.method,
        "bundle": agent.bundle_digest[:DIGEST_LENGTH],
        "device": getattr(served.policy, "device", "none"),
        "explore_episodes": agent.explore_episodes,
        "episodes": agent.episodes,
        "horizon": agent.horizon,
        "typical_return": None if experience is None else experience.typical_return,
        "max_sessions": max_sessions,
    }

    def look() -> View:
        return View(
            sessions=tuple(hosting.table),
            ended=tuple(reversed(hosting.ended)),
            server=fixed | {"at_s": time.monotonic(), "draining": hosting.roster.draining, "store": _store(hosting)},
            counts=_counts(hosting),
        )

    return look


def _store(hosting: Hosting) -> dict[str, Any] | None:
    commits = hosting.group_commit
    if commits is None:
        return None
    return {"well": commits.well, "unsaved": commits.num_unsaved, "failures": commits.counts.num_failures}


def _counts(hosting: Hosting) -> dict[str, Any]:
    metrics = hosting.metrics
    return {
        "opened": metrics.num_opened,
        "steps": hosting.roster.num_steps,
        "batches": hosting.roster.num_batches,
        "interventions": {kind.value: count for kind, count in metrics.interventions.items()},
        "refused": dict(metrics.refused),
        "bounds_ms": BOUNDS_MS,
        "step_ms": list(metrics.step_ms.counts),
        "infer_ms": list(metrics.infer_ms.counts),
    }
