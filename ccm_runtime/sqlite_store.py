"""Sessions in one SQLite file: written ahead (WAL), by one server at a time, readable by its owner alone.

`normal` survives the death of the process at any instant; `full` also a power cut, for one flush of the disk a commit.
After any failure the connection is given up and the file looked at anew: a flush that failed once may claim to have
succeeded when it is tried again. A store that SQLite cannot read any more is moved aside, and what can still be read of
it goes into a new one; a file that never was one is refused and left as it is.
"""

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, Literal

from ccm_runtime.crash_points import reach
from ccm_runtime.errors import ConfigError, StoreUnavailableError
from ccm_runtime.specs import counted
from ccm_runtime.store import MAX_SET_ASIDE, Record
from ccm_runtime.store_file import APPLICATION_ID, SIDE_FILES, is_foreign

Connect = Callable[[Path], sqlite3.Connection]

_SCHEMA_VERSION = 1
_CHECKPOINT_BYTES = 4 << 20  # the log is folded into the file and emptied once it is this long
_LOCK_LIMIT_S = 2.0
_MAX_DAMAGED_FILES = 3
_UNREADABLE = (sqlite3.Error, OSError, UnicodeDecodeError)  # the last one, of the text of an error of SQLite
_SCHEMA = """\
CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS set_aside (
    number INTEGER PRIMARY KEY, session_id TEXT NOT NULL, reason TEXT NOT NULL, at_s REAL NOT NULL, record BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS secret (one INTEGER PRIMARY KEY CHECK (one = 1), bytes BLOB NOT NULL, digest BLOB NOT NULL);
"""


def _tables(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the names and the making of a database's tables."""
    return connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()


def _made_tables() -> list[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(_SCHEMA)
        return _tables(made)


_TABLES = _made_tables()


class _DamagedError(Exception):
    """The file is no database of ours, or no longer one."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, without transactions of Python's own."""
    return sqlite3.connect(path, timeout=_LOCK_LIMIT_S, isolation_level=None, check_same_thread=False)


class SqliteStore:
    """A store in a file. Nothing is touched before the first call.

    Args:
        path: The file; its folder must be there.
        sync: `normal` or `full`, see above.
        say: Is told, in one line, of what was found damaged.
        connect: Opens the file; a test's may fail.
    """

    def __init__(
        self,
        path: Path,
        sync: Literal["normal", "full"] = "normal",
        say: Callable[[str], None] = lambda _: None,
        connect: Connect = connect,
    ) -> None:
        self.path = path
        self._sync = sync
        self._say = say
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._secret: bytes | None = None
        self._inode = 0

    def secret(self) -> bytes:
        """Return the secret, made at the first use of a file."""
        with self._using():
            assert self._secret is not None, "opening reads it or makes it"  # noqa: S101 (our own invariant)
            return self._secret

    def adopt(self, secret: bytes) -> None:
        """Use another secret from the next opening on."""
        self._give_up()
        self._secret = secret

    def read(self) -> list[Record]:
        """Return every record."""
        with self._using() as connection:
            return [Record(*row) for row in connection.execute("SELECT session_id, record FROM sessions")]

    def commit(self, saved: Iterable[Record], removed: Iterable[str]) -> None:
        """Write and remove in one transaction."""
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            _save(connection, saved)
            connection.executemany("DELETE FROM sessions WHERE session_id = ?", [(name,) for name in removed])
            reach("append")
            connection.execute("COMMIT")
            reach("commit")
            if _size(self._side_file("-wal")) > _CHECKPOINT_BYTES:
                self._checkpoint(connection)

    def set_aside(self, session_id: str, reason: str) -> None:
        """Move a record out of the way."""
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO set_aside (session_id, reason, at_s, record) "
                "SELECT session_id, ?, ?, record FROM sessions WHERE session_id = ?",
                (reason, time.time(), session_id),
            )
            connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
            connection.execute(
                "DELETE FROM set_aside WHERE number <= (SELECT max(number) FROM set_aside) - ?", (MAX_SET_ASIDE,)
            )
            connection.execute("COMMIT")

    def tidy(self) -> None:
        """Fold the log into the file, and give free pages back."""
        with self._using() as connection:
            reach("rotate")
            connection.execute("PRAGMA incremental_vacuum").fetchall()
            self._checkpoint(connection)
            reach("rotate")

    def close(self) -> None:
        """Fold the log into the file and let it go."""
        self._give_up()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to a file that is sound; whatever fails, the next use opens a new one."""
        try:
            yield self._opened()
        except (sqlite3.Error, OSError) as error:
            self._give_up()
            if _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise ConfigError(f"store: another server uses {self.path}; stop it, or name another file") from error
            why = getattr(error, "strerror", None) or str(error)
            raise StoreUnavailableError(f"the store {self.path} cannot be used: {why}") from error
        except BaseException:
            self._give_up()
            raise

    def _opened(self) -> sqlite3.Connection:
        """Return the connection; a file that was removed under it holds nothing that would outlive us."""
        if self._connection is not None and self._inode != _inode(self.path):
            self._give_up()
            raise OSError(f"{self.path.name} was removed or replaced while in use")
        if self._connection is None:
            try:
                self._connection = self._open([])
            except _DamagedError as damage:
                self._connection = self._open(self._move_aside(str(damage)))
            self._inode = _inode(self.path)
        return self._connection

    def _open(self, salvaged: Collection[Record]) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        if is_foreign(self.path):
            raise ConfigError(f"store: {self.path} is no database, and is left as it is; name another file")
        connection = self._connect(self.path)
        try:
            self._prepare(connection)
            connection.execute("BEGIN IMMEDIATE")
            self._settle_secret(connection)
            _save(connection, salvaged)
            connection.execute("COMMIT")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            connection.close()
            if _is_damage(error):
                raise _DamagedError(str(error)) from error
            raise
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = bytes.decode
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second server on the same file is refused
        application_id = _first(connection, "PRAGMA application_id")
        blank = _first(connection, "SELECT count(*) FROM sqlite_master") == 0  # new, or we died while making it
        if application_id not in {0, APPLICATION_ID} or (application_id == 0 and not blank):
            raise ConfigError(f"store: {self.path} is a database, but not one of sessions; name another file")
        self._keep_private()
        if blank:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        if (version := _first(connection, "PRAGMA user_version")) != _SCHEMA_VERSION:
            raise ConfigError(
                f"store: the schema of {self.path} is {version}, expected {_SCHEMA_VERSION}; name another file"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._sync}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # we do it, where a crash point can see it
        found = _first(connection, "PRAGMA quick_check(1)")
        if found != "ok":
            raise _DamagedError(str(found))
        connection.executescript(_SCHEMA)
        # The check above does not look at text.
        if _tables(connection) != _TABLES:
            raise _DamagedError("its tables are not those that were made")
        connection.execute("SELECT session_id FROM sessions").fetchall()

    def _settle_secret(self, connection: sqlite3.Connection) -> None:
        """Read the secret; make it where there is none, and put ours in the place of another or of a damaged one."""
        row = connection.execute("SELECT bytes, digest FROM secret").fetchone()
        stored = _sound_secret(row)
        if row is not None and stored is None:
            self._say(f"the secret in {self.path.name} is damaged: tokens of earlier sessions hold no longer")
        if self._secret is None:
            self._secret = stored or secrets.token_bytes(32)
        if self._secret != stored:
            digest = hashlib.sha256(self._secret).digest()
            connection.execute("INSERT OR REPLACE INTO secret VALUES (1, ?, ?)", (self._secret, digest))

    def _move_aside(self, why: str) -> list[Record]:
        """Move the damaged file away, and return the records that could still be read of it."""
        self._keep_private()
        salvaged = self._salvage()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}-{secrets.token_hex(2)}")
        for suffix in SIDE_FILES:
            with suppress(FileNotFoundError):
                self._side_file(suffix).rename(f"{aside}{suffix}")
        self.path.rename(aside)
        self._forget_old_damage()
        read = f"{counted(len(salvaged), 'session')} {'was' if len(salvaged) == 1 else 'were'}"
        self._say(f"{self.path.name} is damaged ({why}); it is kept as {aside.name}, {read} read of it")
        return salvaged

    def _salvage(self) -> list[Record]:
        """Return what can be read from either end of the damaged table, and the secret; records check themselves."""
        found: dict[str, Record] = {}
        with suppress(*_UNREADABLE):
            connection = self._connect(self.path)
            try:
                connection.text_factory = _lenient
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                for order in ("ASC", "DESC"):
                    with suppress(*_UNREADABLE):
                        query = f"SELECT session_id, record FROM sessions ORDER BY session_id {order}"  # noqa: S608
                        for session_id, data in connection.execute(query):
                            if isinstance(session_id, str) and isinstance(data, bytes):
                                found[session_id] = Record(session_id, data)
                row = connection.execute("SELECT bytes, digest FROM secret").fetchone()
                self._secret = self._secret or _sound_secret(row)
            finally:
                connection.close()
        return list(found.values())

    def _keep_private(self) -> None:
        """The secret is in there; SQLite gives its side files the same mode."""
        if self.path.stat().st_mode & 0o077:
            self.path.chmod(0o600)

    def _forget_old_damage(self) -> None:
        damaged = sorted(self.path.parent.glob(f"{escape(self.path.name)}.damaged-*"))
        names = sorted({_without_suffix(path.name) for path in damaged})
        for path in damaged:
            if _without_suffix(path.name) not in names[-_MAX_DAMAGED_FILES:]:
                path.unlink(missing_ok=True)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        reach("snapshot")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        reach("snapshot")

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _side_file(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _save(connection: sqlite3.Connection, records: Iterable[Record]) -> None:
    rows = ((record.session_id, record.data) for record in records)
    connection.executemany("INSERT OR REPLACE INTO sessions (session_id, record) VALUES (?, ?)", rows)


def _sound_secret(row: Any) -> bytes | None:
    """Return the secret of a row, if it is the one that was written."""
    if row is None or not isinstance(row[0], bytes) or hashlib.sha256(row[0]).digest() != row[1]:
        return None
    return row[0]


def _is_damage(error: Exception) -> bool:
    """Whether the file, not the disk, is at fault: text that is none, or tables that our statements do not fit."""
    if isinstance(error, UnicodeDecodeError):
        return True
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


def _code(error: Exception) -> int | None:
    """SQLite's primary code of an error; `None`: it is none of SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _without_suffix(name: str) -> str:
    for suffix in SIDE_FILES:
        name = name.removesuffix(suffix)
    return name


def _first(connection: sqlite3.Connection, query: str) -> Any:
    return connection.execute(query).fetchone()[0]


def _lenient(data: bytes) -> str:
    return data.decode(errors="replace")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
