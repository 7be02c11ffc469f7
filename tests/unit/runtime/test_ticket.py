"""What is kept of a session for another process, and what a client without a server that says where it is does."""

import pickle

import pytest
from scripted_server import Scripted, listening

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.errors import ConfigError, SessionError, SessionUnknownError
from ccm_runtime.ticket import Ticket

TICKET = Ticket("0123abcd", "s3cret")


def test_a_ticket_comes_back_as_it_was_kept(tmp_path):
    for _ in range(2):  # the second one replaces the first
        TICKET.save(tmp_path / "ticket")
    assert TICKET == Ticket.load(tmp_path / "ticket") == pickle.loads(pickle.dumps(TICKET))  # noqa: S301 (our own)
    assert ["ticket"] == [path.name for path in tmp_path.iterdir()]


def test_a_tickets_secret_is_not_shown_and_only_its_owner_reads_its_file(tmp_path):
    TICKET.save(tmp_path / "ticket")
    assert 0o600 == (tmp_path / "ticket").stat().st_mode & 0o777
    assert "0123abcd" in repr(TICKET)
    assert "s3cret" not in f"{TICKET!r} {TICKET}"


@pytest.mark.parametrize("where", ["", "no-folder/ticket", ".", None, 5])
def test_a_ticket_that_cannot_be_kept_somewhere_is_refused_and_leaves_nothing(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"^{where}: the session's ticket cannot be kept there \("):
        TICKET.save(where)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("data", ["", "{", "[]", "3", "{}", '{"session_id": "a"}', '{"session_id": "a", "token": 3}'])
def test_a_file_that_holds_no_ticket_is_refused(tmp_path, data):
    (tmp_path / "ticket").write_text(data)
    with pytest.raises(ConfigError, match="holds no session's ticket"):
        Ticket.load(tmp_path / "ticket")


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no session's ticket"):
        Ticket.load(tmp_path / "ticket")
    (tmp_path / "ticket").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="holds no session's ticket"):
        Ticket.load(tmp_path / "ticket")


async def test_a_session_that_is_not_open_has_no_ticket():
    async with listening(Scripted()) as target, AsyncClient(target) as client:
        with pytest.raises(SessionUnknownError, match="is not open"):
            client.open_session().ticket  # noqa: B018


async def test_of_a_server_that_cannot_say_where_a_session_is_nothing_is_guessed():
    async with listening(Scripted()) as target, AsyncClient(target) as client:
        session = await client.open_session().open()
        await session.begin_episode((0.0, 0.0))
        with pytest.raises(SessionError, match="earlier version and cannot say where"):
            await client.resume_session(session.ticket).open()
