"""What a client must keep to go on with its session in another process."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from ccm_runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Ticket:
    """Opens a session again: whoever holds it can drive the session, so keep it as you keep a password.

    Attributes:
        session_id: The session's name in the server's log; not a secret.
        token: Proves that a caller owns the session: a secret, which is not shown.
    """

    session_id: str
    token: str = field(repr=False)

    def save(self, path: Path | str) -> None:
        """Write the ticket to a file that only its owner can read, whole or not at all, also when the power fails.

        Raises:
            ConfigError: The file cannot be written.
        """
        try:
            self._save(Path(path))
        except (OSError, TypeError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "expected the path of a file"
            raise ConfigError(f"{path}: the session's ticket cannot be kept there ({why})") from None

    def _save(self, path: Path) -> None:
        scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
        try:
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self), file)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a ticket.

        Raises:
            ConfigError: There is none in that file.
        """
        try:
            kept = json.loads(Path(path).read_text(encoding="utf-8"))
            session_id, token = kept["session_id"], kept["token"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} holds no session's ticket ({type(error).__name__}); open a new session"
            ) from None
        if not isinstance(session_id, str) or not isinstance(token, str):
            raise ConfigError(f"{path} holds no session's ticket (its fields are no texts); open a new session")
        return cls(session_id, token)
