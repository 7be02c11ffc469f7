"""Laws of every store: what is committed is there, once, as it was written; what is removed is gone."""

import sqlite3
from contextlib import closing

import pytest
from durable import model, record, sessions_of
from redis_server import WholeStore

from ccm_runtime.sqlite_store import SqliteStore
from ccm_runtime.store import MAX_SET_ASIDE, MemoryStore, Record

ONE_SERVERS = ("memory", "sqlite", "sqlite-full")


@pytest.fixture(params=[*ONE_SERVERS, "redis"])
def store(request, tmp_path):
    if request.param == "redis":
        made = WholeStore(request.getfixturevalue("shared").url)
    elif request.param == "memory":
        made = MemoryStore()
    else:
        made = SqliteStore(tmp_path / "s.db", request.param[7:] or "normal")
    yield made
    made.close()


# What a server finds in a store of its own it may replace and set aside; what others share it leaves as it is.
of_one_server = pytest.mark.parametrize("store", ONE_SERVERS, indirect=True)


def test_a_new_store_is_empty(store):
    assert [] == store.read()


def test_what_is_committed_is_read_as_it_was_written(store):
    records = [record(model(index).session(sequence)) for index, sequence in enumerate((0, 1, 6, 40))]
    store.commit(records, [])
    assert {entry.session_id: entry.data for entry in records} == {e.session_id: e.data for e in store.read()}
    assert all(model(index).holds(session) for index, session in sessions_of(store).items())


def test_of_one_session_the_last_value_is_kept(store):
    for sequence in (3, 4, 9):
        store.commit([record(model(0).session(sequence))], [])
    assert [9] == [session.next_sequence - 1 for session in sessions_of(store).values()]


def test_what_is_removed_is_gone_and_removing_it_again_is_no_error(store):
    store.commit([record(model(index).session(2)) for index in range(3)], [])
    for _ in range(2):
        store.commit([], ["session-1"])
    assert {0, 2} == set(sessions_of(store))


def test_a_group_may_both_write_and_remove(store):
    store.commit([record(model(0).session(2))], [])
    store.commit([record(model(1).session(2))], ["session-0"])
    assert {1} == set(sessions_of(store))


def test_a_group_that_breaks_off_leaves_the_store_as_it_was(store):
    if isinstance(store, MemoryStore):
        pytest.skip("a dictionary has no transactions, and nothing that could break off")
    store.commit([record(model(0).session(2))], [])

    def breaks_off():
        yield record(model(0).session(3))
        yield record(model(1).session(3))
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        store.commit(breaks_off(), ["session-0"])
    assert {0: 2} == {index: session.next_sequence - 1 for index, session in sessions_of(store).items()}
    store.commit([record(model(1).session(3))], [])
    assert {0, 1} == set(sessions_of(store))


def test_the_secret_is_made_once(store):
    secret = store.secret()
    assert 32 == len(secret)
    store.commit([record(model(0).session(1))], [])
    assert secret == store.secret()


@of_one_server
def test_an_adopted_secret_is_the_secret(store):
    store.secret()
    store.adopt(b"x" * 32)
    store.commit([], [])
    assert b"x" * 32 == store.secret()


@of_one_server
def test_what_is_set_aside_is_read_no_more_and_what_is_not_there_is_no_error(store):
    store.commit([Record("bad", b"bytes"), record(model(1).session(2))], [])
    for _ in range(2):
        store.set_aside("bad", "damaged")
    assert ["session-1"] == [entry.session_id for entry in store.read()]


@of_one_server
def test_of_what_is_set_aside_the_last_is_kept(store):
    names = [f"bad-{number}" for number in range(MAX_SET_ASIDE + 5)]
    store.commit([Record(name, b"bytes") for name in names], [])
    for name in names:
        store.set_aside(name, "damaged")
    if isinstance(store, MemoryStore):
        assert names[5:] == list(store.aside)
        return
    store.close()
    with closing(sqlite3.connect(store.path)) as file:
        assert names[5:] == [name for (name,) in file.execute("SELECT session_id FROM set_aside ORDER BY number")]


def test_tidying_changes_nothing_that_is_kept(store):
    store.commit([record(model(index).session(3)) for index in range(50)], [])
    store.commit([], [f"session-{index}" for index in range(1, 50)])
    store.tidy()
    assert {0} == set(sessions_of(store))
