"""A store without a medium: what a test of whoever uses one needs."""

import secrets
from collections.abc import Iterable

from ccm_runtime.store import MAX_SET_ASIDE, Record


class MemoryStore:
    """A store that lives as long as its process.

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
