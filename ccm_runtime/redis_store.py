"""Sessions in one Redis, which several servers share: whoever claims a session holds it, and only its holder writes it.

A session is a hash of its record, the server that holds it, the epoch that it is held under, and the number of the
group that it was written with. Scripts compare these before they write, so a server that was stopped, cut off or merely
late cannot overwrite what another went on with, nor what it wrote later itself. What is called durable is so as Redis
keeps it: with `appendfsync always` over its death and a power cut.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ccm_runtime.crash_points import reach
from ccm_runtime.errors import ConfigError, DependencyMissingError, StoreUnavailableError
from ccm_runtime.store import STORED_LIMIT_S, Record, Seen

SCHEMA_VERSION = b"1"
PREFIX = "ccm:"
# Longer than a write can be on its way: what is gone must not come back with one.
_GONE_LIMIT_S = 3_600
# A command takes two attempts to connect and to be answered at most, less than the writer waits for a group.
_ATTEMPT_LIMIT_S = 1.0
_NUM_RETRIES = 1
# A script that writes more would be late, and would keep the other servers waiting; an entry costs that much by itself.
_PIECE_BYTES, _ENTRY_BYTES = 4 << 20, 1 << 10

Change = tuple[str, int, bytes]  # a session's name, its epoch and its record, empty where it is gone

# Write and remove what is held. KEYS: the secret, sessions. ARGV: the secret, who writes, the number of the group, how
# long records and what is gone are kept; then an epoch and a record for each session, an empty one to remove it.
# Returns the places in KEYS of what is not held; nothing (nil) if the secret is another one.
_COMMIT = """
local secret, owner, number = ARGV[1], ARGV[2], tonumber(ARGV[3])
redis.call('SET', KEYS[1], secret, 'NX')
if redis.call('GET', KEYS[1]) ~= secret then return false end
local lost = {}
for place = 2, #KEYS do
  local key, epoch, data = KEYS[place], tonumber(ARGV[2 * place + 2]), ARGV[2 * place + 3]
  local held = redis.call('HMGET', key, 'epoch', 'owner', 'number')
  local at = tonumber(held[1] or '-1')
  if at > epoch or (at == epoch and held[2] ~= owner) then
    lost[#lost + 1] = place
  elseif at < epoch or tonumber(held[3]) <= number then
    redis.call('HSET', key, 'epoch', epoch, 'owner', owner, 'number', number)
    if data == '' then
      redis.call('HDEL', key, 'record')
      redis.call('EXPIRE', key, ARGV[5])
    else
      redis.call('HSET', key, 'record', data)
      redis.call('EXPIRE', key, ARGV[4])
    end
  end
end
return lost
"""
# KEYS: sessions. ARGV: who claims, how long records are kept. Returns a new epoch and a record for each, an epoch of -1
# where it is gone.
_CLAIM = """
local claimed = {}
for place, key in ipairs(KEYS) do
  local held = redis.call('HMGET', key, 'epoch', 'record')
  if held[2] then
    redis.call('HSET', key, 'epoch', held[1] + 1, 'owner', ARGV[1], 'number', 0)
    redis.call('EXPIRE', key, ARGV[2])
  end
  claimed[2 * place - 1] = held[2] and held[1] + 1 or -1
  claimed[2 * place] = held[2] or ''
end
return claimed
"""


class RedisStore:
    """A store in a database of Redis. Nothing is touched before the first call.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, as the package `redis` reads it.
        password_file: File with the password, read with each new connection; `None`: what the URL says.
        say: Is told, in one line, of what makes the store less than durable.

    Raises:
        ConfigError: The URL is none.
        DependencyMissingError: The package `redis` is not installed.
    """

    def __init__(
        self, url: str, password_file: Path | None = None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.place = place_of(url)
        try:
            import redis  # noqa: PLC0415 (an extra)
        except ModuleNotFoundError:
            raise DependencyMissingError("a store that servers share needs redis: pip install 'ccm[redis]'") from None
        self._failures = (redis.RedisError, OSError)
        self._refusals = redis.ResponseError
        self._client = _client(url, password_file)
        self._commit, self._claim = self._client.register_script(_COMMIT), self._client.register_script(_CLAIM)
        self._say = say
        self._owner = secrets.token_hex(8)
        self._numbers = count(1)
        self._secret: bytes | None = None

    def secret(self) -> bytes:
        """Return the secret, made by the first server of a database."""
        with self._using():
            self._client.set(f"{PREFIX}schema", SCHEMA_VERSION, nx=True)
            found = self._client.get(f"{PREFIX}schema")
            if found != SCHEMA_VERSION:
                raise ConfigError(
                    f"store: the schema of {self.place} is {found!r}, expected {SCHEMA_VERSION!r}; "
                    "name another database"
                )
            self._client.set(f"{PREFIX}secret", secrets.token_bytes(32), nx=True)
            self._secret = bytes(self._client.get(f"{PREFIX}secret"))
            self._tell_what_it_keeps()
            return self._secret

    def look(self, session_ids: Sequence[str]) -> dict[str, Seen]:
        """Return what is known of sessions."""
        with self._using():
            pipe = self._client.pipeline(transaction=False)
            for session_id in session_ids:
                pipe.hmget(_key(session_id), "epoch", "owner", "record")
            ours = self._owner.encode()
            return {
                session_id: Seen(int(epoch), owner == ours, data or b"")
                for session_id, (epoch, owner, data) in zip(session_ids, pipe.execute(), strict=True)
                if epoch is not None
            }

    def claim(self, session_ids: Sequence[str]) -> dict[str, Seen]:
        """Hold sessions from now on, by one script."""
        with self._using():
            told = self._claim([*map(_key, session_ids)], [self._owner, int(STORED_LIMIT_S)])
            reach("claim")
            return {
                session_id: Seen(int(epoch), mine=True, data=data)
                for session_id, epoch, data in zip(session_ids, told[::2], told[1::2], strict=True)
                if data
            }

    def commit_held(self, saved: Iterable[Record], removed: Iterable[Record]) -> frozenset[str]:
        """Write and remove what is held, in a script for each piece of it."""
        with self._using():
            secret = self.secret() if self._secret is None else self._secret
            head = [secret, self._owner, next(self._numbers), int(STORED_LIMIT_S), _GONE_LIMIT_S]
            return frozenset(name for piece in _pieces(saved, removed) for name in self._commit_piece(head, piece))

    def _commit_piece(self, head: list[Any], piece: Sequence[Change]) -> list[str]:
        words = [word for _, epoch, data in piece for word in (epoch, data)]
        reach("append")
        lost = self._commit([f"{PREFIX}secret", *(_key(name) for name, _, _ in piece)], head + words)
        reach("commit")
        if lost is None:
            raise StoreUnavailableError(
                f"the store {self.place} has the secret of other servers, not this one's: it lost what it held, "
                "and they came first; start this server again"
            )
        return [piece[place - 2][0] for place in lost]

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise StoreUnavailableError(f"the store {self.place} cannot be used: {error}") from error

    def _tell_what_it_keeps(self) -> None:
        """Say what makes the store forget; a Redis that does not tell its settings may do as it likes."""
        try:
            kept, memory = self._client.info("persistence"), self._client.info("memory")
        except self._refusals:
            return
        if not kept.get("aof_enabled", 1):
            self._say(f"{self.place} writes no append-only file: what is called durable does not outlive Redis itself")
        if (policy := memory.get("maxmemory_policy", "noeviction")) != "noeviction":
            self._say(f"{self.place} drops sessions where memory is short (maxmemory-policy {policy}, not noeviction)")


def place_of(url: str) -> str:
    """Return a URL without its secrets, for people to read.

    Raises:
        ConfigError: It is none; the message does not repeat it, as there may be a password in it.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix" and parts.path.strip("/"):
            return f"unix://{parts.path}"
        number = parts.path.strip("/")
        if parts.scheme in {"redis", "rediss"} and parts.hostname and (number or "0").isdecimal():
            return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}/{number or 0}"
    except ValueError:
        pass
    raise ConfigError("store: expected a file, redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://... or unix://PATH")


def _client(url: str, password_file: Path | None) -> Any:
    from redis import Redis  # noqa: PLC0415 (an extra)
    from redis.backoff import ExponentialBackoff  # noqa: PLC0415
    from redis.credentials import CredentialProvider  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    class PasswordFile(CredentialProvider):
        """Reads the password when a connection is made: it may be renewed while the server runs."""

        def get_credentials(self) -> tuple[str] | tuple[str, str]:
            password = Path(str(password_file)).read_text(encoding="utf-8").strip()
            return (user, password) if user else (password,)

    options: dict[str, Any] = {
        "socket_timeout": _ATTEMPT_LIMIT_S,
        "socket_connect_timeout": _ATTEMPT_LIMIT_S,
        "retry": Retry(ExponentialBackoff(cap=0.2, base=0.02), _NUM_RETRIES),
        "protocol": 2,
    }
    if password_file is not None:
        parts = urlsplit(url)
        user = parts.username
        url = _without_user(parts)
        options["credential_provider"] = PasswordFile()
    try:
        return Redis.from_url(url, **options)
    except (TypeError, ValueError):  # of an option of the URL; the text may repeat it
        raise ConfigError(f"store: {place_of(url)} has an option in its URL that the package redis refuses") from None


def _without_user(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _key(session_id: str) -> str:
    return f"{PREFIX}session:{session_id}"


def _pieces(saved: Iterable[Record], removed: Iterable[Record]) -> Iterator[list[Change]]:
    """Yield what is to be written and removed, some megabytes at a time; the last piece may be empty."""
    piece: list[Change] = []
    num_bytes = 0
    gone = ((record.session_id, record.epoch, b"") for record in removed)
    for change in chain(((record.session_id, record.epoch, record.data) for record in saved), gone):
        piece.append(change)
        num_bytes += _ENTRY_BYTES + len(change[2])
        if num_bytes >= _PIECE_BYTES:
            yield piece
            piece, num_bytes = [], 0
    yield piece
