"""What the operator's page shows, as JSON: made of values that were taken in one turn of the event loop.

Bounded whatever the server holds: `MAX_SHOWN` sessions, and the few that ended last, with `MAX_RETURNS` returns from
either end of their trials.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccm_runtime.belief_map import BeliefMap, known_region, plane_of
from ccm_runtime.manifest import Manifest
from ccm_runtime.messages import SafeReason
from ccm_runtime.session import Session
from ccm_runtime.trial import Phase

MAX_SHOWN = 200
MAX_RETURNS = 24
ID_LENGTH = 8
DIGEST_LENGTH = 12


@dataclass(frozen=True, slots=True)
class View:
    """A server at one moment.

    Attributes:
        sessions: All sessions that are held.
        ended: The few that were closed last, the last one first; the server bounds them.
        server: What is known of the server, whoever asks.
        counts: Counts over all sessions and tenants.
        manifest: Of the bundle whose map is drawn.
        digest: That bundle's.
    """

    sessions: Sequence[Session]
    ended: Sequence[Session]
    server: Mapping[str, Any]
    counts: Mapping[str, Any]
    manifest: Manifest
    digest: str


class Ages:
    """Numbers sessions in the order in which they were first seen, so that rows keep their places."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}
        self._next = 0

    def newest_first(self, sessions: Iterable[Session]) -> list[Session]:
        """Return the sessions, those that were seen first last; what is gone is forgotten."""
        number_of = {}
        kept = list(sessions)
        for session in kept:
            number = self._number_of.get(session.session_id)
            if number is None:
                number, self._next = self._next, self._next + 1
            number_of[session.session_id] = number
        self._number_of = number_of
        return sorted(kept, key=lambda session: -number_of[session.session_id])


class Plane:
    """Where the beliefs of a bundle are drawn: its own map or, without one, the plane of its novelty statistics."""

    def __init__(self, digest: str, manifest: Manifest) -> None:
        self.digest = digest
        stats = manifest.novelty
        self._map: BeliefMap | None = manifest.belief_map or (None if stats is None else plane_of(stats))
        self.told: dict[str, Any] | None = None
        if self._map is not None:
            outline = [] if stats is None else known_region(self._map, stats)
            self.told = {
                "points": self._map.points,
                "tasks": self._map.tasks,
                "labels": self._map.labels,
                "known": [[_short(x), _short(y)] for x, y in outline],
            }

    def place(self, sessions: Sequence[Session]) -> list[list[float | None] | None]:
        """Return where each session's belief lies, `[x, y]`; `None` without a plane, and for another bundle's."""
        if self._map is None:
            return [None] * len(sessions)
        own = [session for session in sessions if session.bundle_digest == self.digest]
        placed = iter(self._map.place([session.memory.latent_mean.tolist() for session in own]).tolist())
        return [
            [_short(entry) for entry in next(placed)] if session.bundle_digest == self.digest else None
            for session in sessions
        ]


def write_state(view: View, plane: Plane, ages: Ages, *, tenant: str, rest: Callable[[], None] = lambda: None) -> bytes:
    """Return the JSON of what a tenant may see: its own sessions, and counts over all only where there is one tenant.

    Args:
        view: The server.
        plane: Where to draw beliefs.
        ages: What orders the sessions.
        tenant: Whose token it is; empty where there is one tenant.
        rest: Called every few sessions, to let the rest of the process work.
    """
    own = ages.newest_first(_own(view.sessions, tenant, rest))
    shown, ended = own[:MAX_SHOWN], [s for s in view.ended if s.tenant == tenant]
    state = {
        "server": view.server,
        "totals": _totals(own, rest),
        "counts": view.counts if not tenant else None,
        "map": plane.told,
        "num_sessions": len(own),
    }
    head = json.dumps(state, allow_nan=False)
    rows = (_rows(group, plane.place(group), rest) for group in (shown, ended))
    listed = ",".join(f'"{name}":[{",".join(row)}]' for name, row in zip(("sessions", "ended"), rows, strict=True))
    return f"{head[:-1]},{listed}}}".encode()


def _own(sessions: Sequence[Session], tenant: str, rest: Callable[[], None]) -> Iterator[Session]:
    for index, session in enumerate(sessions, 1):
        if session.tenant == tenant:
            yield session
        if not index % 256:
            rest()


def _rows(
    sessions: Sequence[Session], places: Sequence[list[float | None] | None], rest: Callable[[], None]
) -> Iterator[str]:
    for index, (session, at) in enumerate(zip(sessions, places, strict=True), 1):
        yield json.dumps(_row(session, at), allow_nan=False)
        if not index % 16:
            rest()


def _row(session: Session, at: list[float | None] | None) -> dict[str, Any]:
    memory, answer = session.memory, session.last_answer
    trial, returns = memory.trial, memory.returns
    reaction = None if answer is None else answer.reaction
    return {
        "id": session.session_id[:ID_LENGTH],
        "bundle": session.bundle_digest[:DIGEST_LENGTH],
        "phase": trial.phase.value,
        "explore_episodes": trial.explore_episodes,
        "episode": trial.episodes_finished,
        "step": trial.steps_in_episode,
        "events": memory.num_events,
        "first": [_short(total) for total in returns[:MAX_RETURNS]],
        "last": [_short(total) for total in returns[-MAX_RETURNS:]],
        "return_so_far": _short(memory.return_so_far),
        "certainty": None if reaction is None else _short(reaction.certainty),
        "novelty": None if reaction is None else _short(reaction.novelty),
        "interventions": [] if reaction is None else [kind.value for kind in reaction.interventions],
        "mended": session.vigil.mended,
        "misses": session.vigil.misses,
        "safe": None if session.vigil.safe is None else session.vigil.safe.value,
        "owed": len(memory.owed),
        "total_ms": None if answer is None else _short(answer.total_ms),
        "infer_ms": None if answer is None else _short(answer.infer_ms),
        "at": at,
    }


def _totals(sessions: Sequence[Session], rest: Callable[[], None]) -> dict[str, Any]:
    phases: Counter[Phase] = Counter()
    safe: Counter[SafeReason] = Counter()
    bundles: Counter[str] = Counter()
    novel = owed = 0
    for index, session in enumerate(sessions, 1):
        phases[session.memory.trial.phase] += 1
        bundles[session.bundle_digest[:DIGEST_LENGTH]] += 1
        if session.vigil.safe is not None:
            safe[session.vigil.safe] += 1
        novel += session.last_answer is not None and session.last_answer.reaction.novelty > 1.0
        owed += len(session.memory.owed)
        if not index % 256:
            rest()
    return {
        "explore": phases[Phase.EXPLORE],
        "execute": phases[Phase.EXECUTE],
        "safe": {reason.value: safe[reason] for reason in SafeReason},
        "novel": novel,
        "owed": owed,
        "bundles": bundles,
    }


def _short(number: float) -> float | None:
    """Return a number with five digits, which is enough to draw; `None` if it is none."""
    number = float(number)
    return float(f"{number:.5g}") if math.isfinite(number) else None
