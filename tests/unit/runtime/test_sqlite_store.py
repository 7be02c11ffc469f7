"""What only a file can do: be damaged, be full, be locked, be taken away."""

import sqlite3
import subprocess
import sys

import durable
import pytest
from durable import model, record, sessions_of

from ccm_runtime.errors import ConfigError, StoreUnavailableError
from ccm_runtime.records import from_bytes
from ccm_runtime.sqlite_store import SqliteStore, connect
from ccm_runtime.store import Record


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.db"


@pytest.fixture
def open_store(path):
    stores = []

    def open_one(**options):
        stores.append(SqliteStore(path, **options))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def filled(store, count=20, sequence=5):
    store.commit([record(model(index).session(sequence)) for index in range(count)], [])
    return store


def test_sessions_and_secret_outlive_the_store(open_store):
    first = filled(open_store())
    secret = first.secret()
    first.close()
    second = open_store()
    assert secret == second.secret()
    assert all(model(index).holds(session) for index, session in sessions_of(second).items())
    assert 20 == len(second.read())


def test_the_file_is_for_its_owners_eyes_only(open_store, path):
    path.touch(mode=0o666)
    path.chmod(0o666)
    filled(open_store())
    assert {0o600} == {file.stat().st_mode & 0o777 for file in path.parent.iterdir()}


def test_a_second_server_on_the_same_file_is_refused(open_store):
    filled(open_store())

    def impatient(path):
        return sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)

    with pytest.raises(ConfigError, match=r"another server uses .*s\.db"):
        open_store(connect=impatient).read()


def test_a_file_that_is_no_store_of_ours_is_left_alone(open_store, path):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE accounts (balance)")
    other.close()
    path.chmod(0o640)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="not one of sessions; name another file"):
        open_store().read()
    assert before == path.read_bytes()
    assert 0o640 == path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    "content", [b"x", b"A thesis on CCM1 and its stores.\n" * 500, b"\x89PNG\r\n\x1a\n" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(open_store, path, content):
    path.write_bytes(content)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"store: .*s\.db is no database, and is left as it is; name another file"):
        open_store().read()
    assert content == path.read_bytes()
    assert ("s.db", 0o644) == (*(file.name for file in path.parent.iterdir()), path.stat().st_mode & 0o777)


def test_a_store_of_a_later_version_is_left_alone(open_store, path):
    filled(open_store()).close()
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 9")
    later.close()
    with pytest.raises(ConfigError, match=r"schema of .* is 9, expected 1"):
        open_store().read()


def full_after(pages):
    """A disk with room for this many pages."""

    def connect_small(path):
        connection = connect(path)
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")
        return connection

    return connect_small


def test_a_full_disk_fails_the_group_and_harms_nothing_and_is_well_again_when_there_is_room(open_store):
    room = [20]
    store = open_store(connect=full_after(room))
    filled(store, 2)
    with pytest.raises(StoreUnavailableError, match="full"):
        filled(store, 400, 6)
    assert {0: 5, 1: 5} == {index: session.next_sequence - 1 for index, session in sessions_of(store).items()}
    room[0] = 4_000
    store.close()
    filled(store, 400, 6)
    assert 400 == len(sessions_of(store))


def test_after_a_failure_the_connection_is_a_new_one(open_store):
    """A flush that failed once may claim to have succeeded when it is tried again on the same connection."""
    opened = []

    def counting(path):
        opened.append(path)
        return connect(path)

    store = open_store(connect=counting)
    filled(store)
    with pytest.raises(StoreUnavailableError):
        store.commit([Record("session-0", None)], [])  # the column refuses it
    filled(store)
    assert 2 == len(opened)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    store = SqliteStore(tmp_path / "missing" / "s.db")
    with pytest.raises(StoreUnavailableError, match=r"missing/s\.db cannot be used: No such file"):
        store.read()


def test_a_path_that_speaks_of_locks_is_not_another_server(tmp_path):
    with pytest.raises(StoreUnavailableError, match=r"unlocked/s\.db cannot be used: No such file"):
        SqliteStore(tmp_path / "unlocked" / "s.db").read()


def test_a_read_only_file_is_unavailable_not_damaged(open_store, path):
    filled(open_store()).close()

    def read_only(path):
        connection = connect(path)
        connection.execute("PRAGMA query_only = 1")
        return connection

    with pytest.raises(StoreUnavailableError, match="readonly"):
        open_store(connect=read_only).commit([record(model(0).session(6))], [])
    assert ["s.db"] == sorted(file.name for file in path.parent.iterdir())
    assert 20 == len(sessions_of(open_store()))


def test_without_descriptors_the_store_is_unavailable_and_well_again_with_them(path):
    script = f"""
import os, resource
from pathlib import Path
from durable import model, record
from ccm_runtime.errors import StoreUnavailableError
from ccm_runtime.records import from_bytes
from ccm_runtime.sqlite_store import SqliteStore
store = SqliteStore(Path({str(path)!r}))
store.commit([record(model(0).session(1))], [])
store.close()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
try:
    store.commit([record(model(0).session(2))], [])
except StoreUnavailableError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
store.commit([record(model(0).session(3))], [])
print(len(store.read()))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60,
        env={"PYTHONPATH": f"{durable.__file__.rpartition('/')[0]}:{':'.join(sys.path)}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "" == finished.stderr
    refused, count = finished.stdout.splitlines()
    assert "cannot be used: Too many open files" in refused or "unable to open" in refused
    assert "1" == count


def test_a_file_that_is_taken_away_holds_nothing_for_certain(open_store, path):
    store = filled(open_store())
    path.unlink()
    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        filled(store)
    filled(store, 3)
    assert 3 == len(sessions_of(store))


def test_a_damaged_file_is_moved_aside_and_what_can_be_read_goes_on(open_store, path):
    said = []
    store = filled(open_store(), 200)
    secret = store.secret()
    store.close()
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    mended = open_store(say=said.append)
    held = sessions_of(mended)
    assert 100 < len(held) < 200
    assert all(model(index).holds(session) for index, session in held.items())
    assert secret == mended.secret()
    assert 1 == len(said)
    assert f"{len(held)} sessions were read of it" in said[0]
    (aside,) = path.parent.glob("s.db.damaged-*")
    assert bytes(data) == aside.read_bytes()


@pytest.mark.parametrize("wrong", [b"\xff", b"x"])
@pytest.mark.parametrize("text", [b"session-1", b"TABLE secret", b"sessions", b"digest", b"reason"])
def test_a_name_or_a_table_that_is_not_as_it_was_made_is_damage(open_store, path, text, wrong):
    filled(open_store()).close()
    data = path.read_bytes()
    assert text in data
    path.write_bytes(data.replace(text, wrong + text[1:]))
    mended = open_store()
    kept = [entry for entry in mended.read() if entry.session_id.startswith("session-")]
    sound = {entry.session_id: from_bytes(entry.data).session for entry in kept}
    assert all(model(int(name.removeprefix("session-"))).holds(session) for name, session in sound.items())
    mended.commit([record(model(0).session(7))], [])
    (again,) = (from_bytes(entry.data).session for entry in mended.read() if entry.session_id == "session-0")
    assert 8 == again.next_sequence


@pytest.mark.parametrize("beginning", [b"\xa5" * 64, b"\xa5" * 4096, b"\x00" * 4096])
def test_a_store_whose_beginning_is_lost_is_still_ours(open_store, path, beginning):
    filled(open_store()).close()
    data = path.read_bytes()
    path.write_bytes(beginning + data[len(beginning) :])
    assert 20 == len(sessions_of(filled(open_store())))
    (aside,) = path.parent.glob("s.db.damaged-*")
    assert 0o600 == aside.stat().st_mode & 0o777


def test_a_log_beside_a_lost_file_tells_that_it_was_ours(open_store, path):
    path.write_bytes(b"\xa5" * 4096)
    path.with_name("s.db-wal").write_bytes(b"\xa5" * 4096)
    assert 20 == len(sessions_of(filled(open_store())))


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 5000, b"SQLit", b"SQLite format 3\x00" + b"\xff" * 8000])
def test_whatever_lies_there_a_store_begins(open_store, path, garbage):
    path.write_bytes(garbage)
    assert 20 == len(sessions_of(filled(open_store())))


@pytest.mark.parametrize("name", ["s.db", "s[1].db"])
def test_of_damaged_files_the_last_few_are_kept(tmp_path, name):
    for _ in range(6):
        (tmp_path / name).write_bytes(b"SQLite format 3, but no database at all" * 100)
        store = SqliteStore(tmp_path / name)
        store.read()
        store.close()
    assert 3 == len(list(tmp_path.glob("*.damaged-*")))


def test_a_damaged_secret_is_replaced_and_said(open_store, path):
    said = []
    store = filled(open_store())
    secret = store.secret()
    store.close()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE secret SET bytes = x'00'")
    file.close()
    assert secret != open_store(say=said.append).secret()
    assert ["the secret in s.db is damaged: tokens of earlier sessions hold no longer"] == said


def test_the_log_and_the_file_stay_bounded(open_store, path):
    store = open_store()
    filled(store, 100)
    store.tidy()
    held = path.stat().st_size
    for sequence in range(300):
        filled(store, 100, sequence % 7)
    wal = path.with_name("s.db-wal")
    assert wal.stat().st_size < 8 << 20
    store.commit([], [f"session-{index}" for index in range(100)])
    store.tidy()
    assert path.stat().st_size < held
    assert 0 == wal.stat().st_size
