"""Who may call: bearer tokens, and the tenant that each belongs to."""

import hmac
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ccm_runtime.errors import ConfigError
from ccm_runtime.files import read_file
from ccm_runtime.specs import counted

MIN_TOKEN_LENGTH = 16
TENANT: ContextVar[str] = ContextVar("tenant", default="")
"""Whose call this is; empty where the server knows one tenant."""


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """The tokens of a server, each with its tenant."""

    entries: tuple[tuple[bytes, str], ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file with a token, or with one `tenant:token` a line; a tenant may have several.

        Raises:
            ConfigError: It cannot be read, or holds no token, a short one, or one twice. No token is in the message.
        """
        lines = [line.strip() for line in read_file(path).decode(errors="replace").splitlines() if line.strip()]
        entries = tuple(_entry(path, number, line) for number, line in enumerate(lines, 1))
        if not entries:
            raise ConfigError(f"{path} holds no token; expected one, or lines of TENANT:TOKEN")
        if len(entries) > 1 and not all(tenant for _, tenant in entries):
            raise ConfigError(f"{path} holds several tokens, and not all name their tenant; expected TENANT:TOKEN")
        if len({token for token, _ in entries}) < len(entries):
            raise ConfigError(f"{path} holds a token twice")
        return cls(entries)

    def tenant_of(self, authorization: bytes) -> str | None:
        """Return whose `Bearer TOKEN` it is, or `None`; it takes as long for every token, right or wrong."""
        found = None
        for token, tenant in self.entries:
            if hmac.compare_digest(b"Bearer " + token, authorization):
                found = tenant
        return found


class TokenFile:
    """The tokens of a file that may change while a server runs: it is looked at with each call.

    A token that is taken out is refused from the next call on; a stream that stands goes on until it ends. A file that
    cannot be read, or is wrong, changes nothing: the tokens before it go on.

    Args:
        path: The file.
        log: Is told of a change, without a token.

    Raises:
        ConfigError: It is wrong at the start; see `Tokens.read`.
    """

    def __init__(self, path: Path, log: Any) -> None:
        self._path = path
        self._log = log
        self._looks = _looks(path)
        self._tokens = Tokens.read(path)

    def tenant_of(self, authorization: bytes) -> str | None:
        """Return whose `Bearer TOKEN` it is now, or `None`; see `Tokens.tenant_of`."""
        looks = _looks(self._path)
        if looks != self._looks:
            self._looks = looks
            try:
                self._tokens = Tokens.read(self._path)
            except ConfigError as error:
                self._log.warning("tokens not renewed", why=str(error))
            else:
                self._log.info("tokens renewed", num_tokens=len(self._tokens.entries))
        return self._tokens.tenant_of(authorization)


def _looks(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; `None`: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _entry(path: Path, number: int, line: str) -> tuple[bytes, str]:
    tenant, _, token = line.rpartition(":")
    if len(token) < MIN_TOKEN_LENGTH:
        raise ConfigError(
            f"{path}, token {number}, has {counted(len(token), 'character')}; expected {MIN_TOKEN_LENGTH} or more"
        )
    return token.encode(), tenant
