"""Take a view of a server, in one turn of its event loop: references to values that never change, and a few counts."""

import time
from collections.abc import Callable
from typing import Any

from ccm_runtime import __version__
from ccm_runtime.hosting import Hosting
from ccm_runtime.metrics import BOUNDS_MS
from ccm_runtime.page.state import DIGEST_LENGTH, View
from ccm_runtime.versions import Version


def viewer(hosting: Hosting, address: str, max_sessions: int) -> Callable[[], View]:
    """Return what takes views of a server, headed with the current version of its default agent.

    Args:
        hosting: What it hosts.
        address: Where it listens, `HOST:PORT`.
        max_sessions: Most sessions that it holds.
    """

    def look() -> View:
        current = hosting.roster.rollout().current
        server = {
            "version": __version__,
            "address": address,
            "max_sessions": max_sessions,
            "at_s": time.monotonic(),
            "draining": hosting.roster.draining,
            "store": _store(hosting),
            "versions": _versions(hosting),
        }
        return View(
            sessions=tuple(hosting.table),
            ended=tuple(reversed(hosting.absent.ended)),
            server=server | _head(current),
            counts=_counts(hosting),
            manifest=current.manifest,
            digest=current.digest,
        )

    return look


def _head(current: Version) -> dict[str, Any]:
    agent, experience = current.agent, current.manifest.experience
    return {
        "agent_id": agent.agent_id,
        "family": agent.family,
        "method": agent.method,
        "bundle": agent.bundle_digest[:DIGEST_LENGTH],
        "device": current.device,
        "explore_episodes": agent.explore_episodes,
        "episodes": agent.episodes,
        "horizon": agent.horizon,
        "typical_return": None if experience is None else experience.typical_return,
    }


def _versions(hosting: Hosting) -> list[dict[str, str]]:
    return [
        {
            "agent": version.agent.name,
            "name": version.name,
            "bundle": version.digest[:DIGEST_LENGTH],
            "role": hosting.roster.role(version).value,
        }
        for version in hosting.roster.versions
    ]


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
