"""A session is its owner's, takes each number once, and is held in a bounded table until it is idle for too long."""

import dataclasses

import pytest

from ccm_runtime.adapt import Adapter
from ccm_runtime.errors import SessionLimitError, SessionUnknownError, StepGapError
from ccm_runtime.messages import Answer, Reaction
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy
from ccm_runtime.trial import Phase


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table(clock):
    return SessionTable(max_sessions=2, idle_limit_s=10.0, clock=clock)


@pytest.fixture
def memory():
    return Adapter.of(ScriptedPolicy()).start()


def answer(sequence):
    return Answer(sequence, Reaction(None, Phase.EXPLORE, 0, 0, episode_over=True, certainty=0.0, novelty=0.0))


def test_a_new_session_expects_event_one(table, memory):
    session = table.open(memory)
    assert 1 == session.next_sequence
    assert session.recall(1) is None


def test_a_repeated_number_gets_the_very_answer_that_it_got(table, memory):
    session = table.open(memory).answered(memory, answer(1))
    assert session.last_answer is session.recall(1)
    assert 2 == session.next_sequence


@pytest.mark.parametrize("sequence", [0, 1, 4, 2**63])
def test_any_other_number_is_refused_with_the_expected_one(table, memory, sequence):
    session = table.open(memory).answered(memory, answer(1)).answered(memory, answer(2))
    with pytest.raises(StepGapError, match="expects event 3") as refused:
        session.recall(sequence)
    assert 3 == refused.value.expected


def test_a_session_is_its_owners_alone(table, memory):
    mine, other = table.open(memory), table.open(memory)
    assert mine == table.get(mine.session_id, table.token(mine.session_id))
    for token in ("", "x", table.token(other.session_id), "é"):
        with pytest.raises(SessionUnknownError, match="no such session"):
            table.get(mine.session_id, token)
        with pytest.raises(SessionUnknownError):
            table.close(mine.session_id, token)


def test_tokens_differ_between_tables(memory, clock):
    first, second = (SessionTable(1, 1.0, clock) for _ in range(2))
    assert first.token("a") != second.token("a")


def test_the_table_is_bounded_and_room_is_made_by_closing(table, memory):
    first = table.open(memory)
    table.open(memory)
    with pytest.raises(SessionLimitError, match=r"maximum of 2 sessions; close one, or raise --max-sessions"):
        table.open(memory)
    assert first == table.close(first.session_id, table.token(first.session_id))
    table.open(memory)


def test_an_idle_session_expires_and_makes_room(table, memory, clock):
    first = table.open(memory)
    clock.now_s += 6.0
    second = table.open(memory)
    clock.now_s += 6.0
    assert 1 == table.expire()
    assert [second] == list(table)
    with pytest.raises(SessionUnknownError):
        table.get(first.session_id, table.token(first.session_id))
    table.open(memory)


def test_a_used_session_does_not_expire(table, memory, clock):
    session = table.open(memory)
    for _ in range(5):
        clock.now_s += 9.0
        session = table.keep(table.get(session.session_id, table.token(session.session_id)))
    assert 1 == len(table)


def test_closing_what_is_gone_is_no_error(table, memory):
    session = table.open(memory)
    token = table.token(session.session_id)
    assert table.close(session.session_id, token) is not None
    assert table.close(session.session_id, token) is None


def test_a_key_names_one_session_until_it_is_gone(table, memory, clock):
    session = table.open(memory, "mine")
    assert session == table.find_key("mine")
    assert table.find_key("yours") is None
    clock.now_s += 11.0
    assert table.find_key("mine") is None
    again = table.open(memory, "mine")
    table.close(again.session_id, table.token(again.session_id))
    assert table.find_key("mine") is None


class Notes:
    """What a journal is told."""

    def __init__(self):
        self.told = []

    def changed(self, session):
        self.told.append(("changed", session.session_id))

    def removed(self, session):
        self.told.append(("removed", session.session_id, session.epoch))


def test_what_comes_from_another_server_and_goes_there_again_is_no_change(table, memory):
    opened = table.open(memory, "key", "tenant", session_id="name")
    table.journal = notes = Notes()
    table.take_in(dataclasses.replace(opened, epoch=3))
    assert (1, 3) == (len(table), table.find_key("key", "tenant").epoch)
    table.let_go(table.find("name"))
    assert (0, None) == (len(table), table.find_key("key", "tenant"))
    assert [] == notes.told


def test_what_expires_names_the_epoch_that_it_was_held_under(table, memory, clock):
    table.take_in(dataclasses.replace(table.open(memory, session_id="name"), epoch=3))
    table.journal = notes = Notes()
    clock.now_s += 11.0
    table.expire()
    assert [("removed", "name", 3)] == notes.told


def test_a_key_names_one_session_of_a_tenant_and_no_two_alike(table):
    named = [("a", ""), ("a", "b"), ("ab", ""), ("", "ab"), ("b", "a")]
    names = {table.name_of(key, tenant) for key, tenant in named}
    assert len(named) == len(names)
    assert names == {SessionTable(1, 1.0, secret=table._secret).name_of(key, tenant) for key, tenant in named}
    assert table.name_of("a", "") != SessionTable(1, 1.0).name_of("a", "")
    assert not any(table.token(text).startswith(name) for name in names for text, _ in named)


def test_room_that_is_kept_for_a_session_is_nobody_elses(table, memory):
    table.open(memory)
    with table.expecting():
        for refused in (table.open, lambda _: table.expecting().__enter__()):
            with pytest.raises(SessionLimitError):
                refused(memory)
        table.take_in(dataclasses.replace(next(iter(table)), session_id="came"))
    assert 2 == len(table)
    table.let_go(table.find("came"))
    table.open(memory)
