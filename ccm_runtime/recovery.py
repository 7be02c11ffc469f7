"""What a starting server makes of the sessions that it finds in its store."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

from pydantic import SecretStr

from ccm_runtime.adapt import Adapter
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError, RecordCorruptError, SpecError, StoreUnavailableError
from ccm_runtime.moment import Moment
from ccm_runtime.records import Stored, from_bytes
from ccm_runtime.redis_store import RedisStore
from ccm_runtime.sqlite_store import SqliteStore
from ccm_runtime.store import STORED_LIMIT_S, Record, SharedStore, Store

# What checks the beliefs of a bundle's sessions, by its digest; `None`: that bundle is not served.
AdapterOf: TypeAlias = Callable[[str], Adapter | None]


@dataclass(frozen=True, slots=True)
class Found:
    """What is in a store.

    Attributes:
        secret: Of the tokens.
        resumed: Sessions of the bundles that are served, the longest idle one first.
        resting: Sessions of other bundles, which stay in the store.
        well: Whether the store can be used.
    """

    secret: bytes
    resumed: tuple[Stored, ...] = ()
    resting: tuple[Stored, ...] = ()
    well: bool = True


def store_of(config: ServerConfig, log: Any) -> Store | SharedStore | None:
    """Return the store that the settings name, not yet touched; `None`: sessions live in memory alone.

    Raises:
        ConfigError: Its folder is not there, or its URL is none.
        DependencyMissingError: The package that speaks to it is not installed.
    """
    if config.store is None:
        return None
    if isinstance(config.store, SecretStr):
        url = config.store.get_secret_value()
        return RedisStore(url, config.store_password_file, say=lambda line: log.warning("store forgets", what=line))
    path = config.store.absolute()
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise ConfigError(f"store: expected a file in a folder that exists, got {config.store}")
    return SqliteStore(path, config.store_sync, say=lambda line: log.warning("store damaged", what=line))


def find(store: Store, adapters: AdapterOf, config: ServerConfig, log: Any) -> Found:
    """Return the sessions to go on with, and put the others in order: damaged ones aside, old ones away.

    Sessions of a bundle that has no adapter are left where they are: they go on when a server starts with it. All the
    others are resumed, more than the server's maximum too: what was called durable is not dropped for want of room.

    Raises:
        ConfigError: The store cannot be used, and the policy is to refuse.
        DeviceLostError: The GPU failed as a belief was to be read; nothing has become of that session.
    """
    try:
        return _find(store, adapters, config.max_sessions, log)
    except StoreUnavailableError as error:
        if config.store_failure == "refuse":
            raise ConfigError(f"{error}; mend it, name another FILE with --store, or go on without one") from None
        log.error("store unavailable", why=str(error), policy="degrade")  # noqa: TRY400 (one line says it)
        fresh = secrets.token_bytes(32)
        store.adopt(fresh)
        return Found(fresh, well=False)


def join(store: SharedStore) -> Found:
    """Return the secret of the servers that share a store; their sessions come when their clients do.

    Raises:
        ConfigError: The store cannot be used: without its secret this server could not know their clients.
    """
    try:
        return Found(store.secret())
    except StoreUnavailableError as error:
        raise ConfigError(f"{error}; a server cannot join those that share it without it") from None


def _find(store: Store, adapters: AdapterOf, max_sessions: int, log: Any) -> Found:
    secret, now = store.secret(), Moment.now()
    sound = [(stored.saved_at.age_s(now), stored) for stored in _sound(store, store.read(), adapters, log)]
    sound.sort(key=itemgetter(0), reverse=True)
    # A server that is down is nobody's idleness: whatever is resumed has its whole idle limit before it.
    kept = [stored for age_s, stored in sound if age_s <= STORED_LIMIT_S]
    dropped = [stored.session.session_id for age_s, stored in sound if age_s > STORED_LIMIT_S]
    resumed = tuple(stored for stored in kept if adapters(stored.session.bundle_digest) is not None)
    resting = tuple(stored for stored in kept if adapters(stored.session.bundle_digest) is None)
    if dropped:
        store.commit((), dropped)
    store.tidy()
    log.info("sessions recovered", num_resumed=len(resumed), num_other_bundle=len(resting), num_dropped=len(dropped))
    if len(resumed) > max_sessions:
        fuller = {"num_resumed": len(resumed), "max_sessions": max_sessions}
        log.warning("more sessions resumed than the maximum", **fuller, until_there_are_fewer="no other is opened")
    return Found(secret, resumed, resting)


def _sound(store: Store, records: list[Record], adapters: AdapterOf, log: Any) -> list[Stored]:
    """Return the sessions that are what was written; the rest is set aside."""
    sound = []
    for record in records:
        try:
            sound.append(_checked(record, adapters))
        except (RecordCorruptError, SpecError) as error:  # what else fails, a GPU say, is no fault of the record
            store.set_aside(record.session_id, str(error))
            log.warning("session set aside", session_id=record.session_id, why=str(error))
    return sound


def _checked(record: Record, adapters: AdapterOf) -> Stored:
    """Return the session in a record; raises RecordCorruptError or SpecError where it is not what was written."""
    stored = from_bytes(record.data)
    if stored.session.session_id != record.session_id:
        raise RecordCorruptError(f"it is the record of session {stored.session.session_id}")
    if (adapter := adapters(stored.session.bundle_digest)) is not None:
        adapter.check_belief(stored.session.memory.belief)
    return stored
