"""Where sessions outlive their server: the protocols of stores, and the one that only a process lives with.

A store keeps the bytes of records (`records.py`) and knows nothing of what is in them. It is used from one thread at a
time: a `Store` by one server at a time, a `SharedStore` by several.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

# Records that were set aside are kept for whoever looks into it, but not for ever.
MAX_SET_ASIDE = 100
# A stored session that nobody came back for within a day is dropped, whatever its bundle.
STORED_LIMIT_S = 86_400.0


def is_url(text: str) -> bool:
    """Return whether a setting names a store by its URL, and not a file; one that is mistyped may hold a secret too."""
    return "://" in text or text.startswith(("redis:", "rediss:"))


@dataclass(frozen=True, slots=True)
class Record:
    """A session's name and its bytes.

    Attributes:
        session_id: Its name.
        data: Its bytes.
        epoch: Under which a server holds it; of no meaning where a store has one server.
    """

    session_id: str
    data: bytes
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a shared store knows of a session.

    Attributes:
        epoch: Under which it is held; it stays known for a while after the session has gone.
        mine: Whether the server that asks holds it.
        data: Its bytes; empty: it is gone.
    """

    epoch: int
    mine: bool
    data: bytes


class Store(Protocol):
    """Keeps records.

    Every method raises `StoreUnavailableError` when it could not do all that it says; then nothing is known of what was
    being written, and the next call begins with a new look at the medium. It raises `ConfigError` where there can be no
    store of this server.
    """

    def secret(self) -> bytes:
        """Return the secret that the tokens of sessions derive from: made once, and durable before it is returned."""

    def adopt(self, secret: bytes) -> None:
        """Use this secret from now on, and make it durable with the next commit (the stored one cannot be read)."""

    def read(self) -> list[Record]:
        """Return every record."""

    def commit(self, saved: Iterable[Record], removed: Iterable[str]) -> None:
        """Write records and remove sessions, all or nothing; once this returns, it outlives the process."""

    def set_aside(self, session_id: str, reason: str) -> None:
        """Move a record out of the way of `read`, with the reason; at most `MAX_SET_ASIDE` are kept, the last ones."""

    def tidy(self) -> None:
        """Give back the room of what was removed."""

    def close(self) -> None:
        """Let the medium go; what was committed stays."""


@runtime_checkable
class SharedStore(Protocol):
    """Keeps the records of several servers. A session is held by one of them: by the last that claimed it.

    Epochs fence: a claim raises the session's epoch, and who writes under a lower one, or under the same one but as
    another server, writes nothing. Every method raises `StoreUnavailableError` when it could not do all that it says;
    it may then have been done, or be done later.
    """

    def secret(self) -> bytes:
        """Return the secret that the tokens of sessions derive from, the same for every server."""

    def look(self, session_ids: Sequence[str]) -> dict[str, Seen]:
        """Return what is known of sessions, by their names; the others were never there, or long ago."""

    def claim(self, session_ids: Sequence[str]) -> dict[str, Seen]:
        """Hold sessions from now on, each under a higher epoch; return them as they are then, but for those gone."""

    def commit_held(self, saved: Iterable[Record], removed: Iterable[Record]) -> frozenset[str]:
        """Write records and remove sessions, each whole, of those that are held; return the names of the others.

        What is not there is written too: the store may have lost it.
        """

    def close(self) -> None:
        """Let the medium go; what was committed stays."""


class MemoryStore:
    """A store that lives as long as its process: the smallest whole one, for programs and tests that hold a server.

    It belongs to the package as those of SQLite and Redis do, though no command starts a server with it.

    Attributes:
        aside: What was set aside, with the reason.
    """

    def __init__(self) -> None:
        self.aside: dict[str, tuple[Record, str]] = {}
        self._records: dict[str, Record] = {}
        self._secret = secrets.token_bytes(32)

    def secret(self) -> bytes:
        """Return the secret."""
        return self._secret

    def adopt(self, secret: bytes) -> None:
        """Use another secret."""
        self._secret = secret

    def read(self) -> list[Record]:
        """Return every record."""
        return list(self._records.values())

    def commit(self, saved: Iterable[Record], removed: Iterable[str]) -> None:
        """Write and remove."""
        self._records.update((record.session_id, record) for record in saved)
        for session_id in removed:
            self._records.pop(session_id, None)

    def set_aside(self, session_id: str, reason: str) -> None:
        """Move a record out of the way."""
        record = self._records.pop(session_id, None)
        if record is not None:
            self.aside[session_id] = (record, reason)
            while len(self.aside) > MAX_SET_ASIDE:
                del self.aside[next(iter(self.aside))]

    def tidy(self) -> None:
        """There is nothing to give back."""

    def close(self) -> None:
        """There is nothing to let go."""
