"""The smallest store: a dictionary, held to the laws of every store."""

import secrets

from ccm_runtime.store import MAX_SET_ASIDE


class MemoryStore:
    """A store that lives as long as its process.

    Attributes:
        aside: What was set aside, with the reason.
    """

    def __init__(self):
        self.aside = {}
        self._records = {}
        self._secret = secrets.token_bytes(32)

    def secret(self):
        """Return the secret."""
        return self._secret

    def adopt(self, secret):
        """Use another secret."""
        self._secret = secret

    def read(self):
        """Return every record."""
        return list(self._records.values())

    def commit(self, saved, removed):
        """Write and remove."""
        self._records.update((record.session_id, record) for record in saved)
        for session_id in removed:
            self._records.pop(session_id, None)

    def set_aside(self, session_id, reason):
        """Move a record out of the way."""
        record = self._records.pop(session_id, None)
        if record is not None:
            self.aside[session_id] = (record, reason)
            while len(self.aside) > MAX_SET_ASIDE:
                del self.aside[next(iter(self.aside))]

    def tidy(self):
        """There is nothing to give back."""

    def close(self):
        """There is nothing to let go."""
