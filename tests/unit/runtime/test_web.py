"""Laws of the small HTTP server: GET alone, bounded in size, number and time."""

import http.client
import select
import socket
import time
from contextlib import suppress

import pytest
from certificates import make, needs_openssl

from ccm_runtime import web
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError
from ccm_runtime.tls import web_context
from ccm_runtime.web import MAX_CONNECTIONS, MAX_HEAD_BYTES, Reply, Web

LIMIT_S = 20.0


@pytest.fixture
def door():
    door = Web("127.0.0.1", 0, lambda request: Reply(request.path.encode()), setting="--some-port")
    yield door
    door.stop()


def ask(door, method="GET", path="/there?secret", headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=LIMIT_S)
    connection.request(method, path, headers=dict(headers))
    answered = connection.getresponse()
    told = answered.status, answered.read(), dict(answered.getheaders())
    connection.close()
    return told


def raw(door, data):
    with socket.create_connection(("127.0.0.1", door.port), LIMIT_S) as connection:
        connection.sendall(data)
        with connection.makefile("rb") as answer:
            return answer.read()


def test_a_get_is_answered_and_no_version_is_told(door):
    status, body, headers = ask(door)
    assert (200, b"/there", "ccm") == (status, body, headers["Server"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "NONSENSE"])
def test_whatever_is_no_get_is_refused(door, method):
    status, _, headers = ask(door, method)
    assert (405, "GET") == (status, headers["Allow"])


def test_a_head_has_a_bound(door):
    assert 200 == ask(door, headers={"X-Long": "x" * (MAX_HEAD_BYTES - 500)})[0]
    assert 431 == ask(door, headers={"X-Long": "x" * MAX_HEAD_BYTES})[0]


@pytest.mark.parametrize("nonsense", [b"\x00\xff\xfe\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n"])
def test_what_is_no_request_is_refused_without_an_echo(door, nonsense):
    answer = raw(door, nonsense)
    assert answer.split()[1][:1] in {b"4", b"5"}
    assert nonsense.strip() not in answer
    assert 200 == ask(door)[0]


def test_further_connections_than_the_bound_are_closed_at_once(monkeypatch):
    monkeypatch.setattr(web, "LIFE_S", 1_000.0)  # none ends by itself
    door = Web("127.0.0.1", 0, lambda _: Reply(), setting="--some-port")
    held = [socket.create_connection(("127.0.0.1", door.port), LIMIT_S) for _ in range(MAX_CONNECTIONS)]
    for connection in held:
        connection.sendall(b"GET /")
    assert b"" == raw(door, b"")
    for connection in held:
        connection.close()
    door.stop()


def test_who_is_slow_is_cut_off(monkeypatch):
    """A peer that always sends a little more, but never a whole request, still ends."""
    monkeypatch.setattr(web, "LIFE_S", 0.3)
    door = Web("127.0.0.1", 0, lambda _: Reply(), setting="--some-port")
    with socket.create_connection(("127.0.0.1", door.port), LIMIT_S) as slow:
        for _ in range(200):  # ten seconds, and far from the bound on a head
            slow.sendall(b"x")
            if select.select([slow], [], [], 0.05)[0]:
                break
        else:
            pytest.fail("it was never cut off")
    door.stop()


def test_who_is_slow_and_does_not_mind_the_end_makes_room_all_the_same(monkeypatch):
    monkeypatch.setattr(web, "LIFE_S", 0.3)
    door = Web("127.0.0.1", 0, lambda _: Reply(), setting="--some-port")
    slow = [socket.create_connection(("127.0.0.1", door.port), LIMIT_S) for _ in range(MAX_CONNECTIONS)]
    for _ in range(200):
        for connection in slow:
            with suppress(OSError):
                connection.sendall(b"x")
        with suppress(http.client.HTTPException, OSError):
            assert 200 == ask(door)[0]
            break
        time.sleep(0.02)
    else:
        pytest.fail("they held every place")
    for connection in slow:
        connection.close()
    door.stop()


def test_an_answer_that_fails_ends_its_connection_alone():
    def answer(request):
        if request.path == "/bad":
            raise RuntimeError("secret")
        return Reply(b"good")

    door = Web("127.0.0.1", 0, answer, setting="--some-port")
    assert b"" == raw(door, b"GET /bad HTTP/1.1\r\n\r\n")
    assert 200 == ask(door)[0]
    door.stop()


def test_a_port_that_is_taken_is_named(door):
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{door.port}: .*; choose another --other-port"):
        Web("127.0.0.1", door.port, lambda _: Reply(), setting="--other-port")


@needs_openssl
def test_tls_is_spoken_where_it_is_set_and_renewed_without_a_restart(tmp_path):
    import ssl  # noqa: PLC0415

    key, cert = make(tmp_path, "old")
    new_key, new_cert = make(tmp_path, "new")
    old_authority = tmp_path / "authority.pem"
    old_authority.write_bytes(cert.read_bytes())
    config = ServerConfig(tls_key=key, tls_cert=cert)
    door = Web("127.0.0.1", 0, lambda _: Reply(b"hello"), setting="--some-port", tls=web_context(config))

    def secure(authority):
        context = ssl.create_default_context(cafile=authority)
        connection = http.client.HTTPSConnection("127.0.0.1", door.port, timeout=LIMIT_S, context=context)
        connection.request("GET", "/")
        body = connection.getresponse().read()
        connection.close()
        return body

    assert b"hello" == secure(old_authority)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(door)  # plain text
    cert.write_text("half a certif")
    assert b"hello" == secure(old_authority)
    key.write_bytes(new_key.read_bytes())
    cert.write_bytes(new_cert.read_bytes())
    assert b"hello" == secure(new_cert)
    with pytest.raises(ssl.SSLError):
        secure(old_authority)
    door.stop()
