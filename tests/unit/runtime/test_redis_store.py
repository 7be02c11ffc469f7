"""What a store in Redis is named by, how it is opened, and what it says of itself."""

import builtins
from contextlib import nullcontext

import pytest
from certificates import make, needs_openssl
from durable import model, record
from redis_server import redis_server

from ccm_runtime.commands.server_process import free_port
from ccm_runtime.errors import ConfigError, DependencyMissingError, StoreUnavailableError
from ccm_runtime.redis_store import PREFIX, RedisStore, place_of
from ccm_runtime.store import Seen


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://store", "redis://store:6379/0"),
        ("redis://robot:hunter2@store:1234/5", "redis://store:1234/5"),
        ("rediss://:hunter2@[::1]:1/0?ssl_ca_certs=/ca.pem&password=hunter2", "rediss://::1:1/0"),
        ("unix:///run/redis.sock?db=2&password=hunter2", "unix:///run/redis.sock"),
    ],
)
def test_a_place_is_told_without_its_password(url, place):
    assert place == place_of(url)


@pytest.mark.parametrize(
    "url", ["redis://", "redis://:hunter2/x@store", "redis://:hunter2@store/no", "unix://", "http://h", "redis:6379"]
)
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError, match="expected a file, redis://") as refused:
        RedisStore(url)
    assert "hunter2" not in str(refused.value)


def test_an_option_that_is_none_is_refused_without_repeating_it():
    with pytest.raises(ConfigError, match="redis://store:6379/0 has an option") as refused:
        RedisStore("redis://:hunter2@store?socket_timeout=hunter2")
    assert "hunter2" not in str(refused.value)


def test_without_the_package_the_extra_is_named(monkeypatch):
    imported = builtins.__import__

    def missing(name, *words):
        if name == "redis":
            raise ModuleNotFoundError("No module named 'redis'", name="redis")
        return imported(name, *words)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DependencyMissingError, match=r"ccm\[redis\]"):
        RedisStore("redis://store")


def test_nothing_is_touched_before_the_first_call():
    RedisStore("redis://127.0.0.1:1/0").close()


def test_a_password_is_read_anew_with_each_connection_and_is_in_no_error(tmp_path):
    password = tmp_path / "password"
    with redis_server(tmp_path / "redis", requirepass="hunter2") as redis:
        store = RedisStore(redis.url, password)
        with pytest.raises(StoreUnavailableError, match="No such file"):
            store.secret()
        password.write_text("hunter3\n", encoding="utf-8")
        with pytest.raises(StoreUnavailableError) as refused:
            store.secret()
        assert "hunter" not in str(refused.value)
        password.write_text("hunter2\n", encoding="utf-8")
        assert 32 == len(store.secret())
        store.close()
        named = RedisStore(redis.url.replace("//", "//default:hunter2@"))
        assert store._secret == named.secret()
        named.close()


def test_a_database_of_another_schema_is_left_alone(shared):
    shared.client().set(f"{PREFIX}schema", "2")
    store = RedisStore(shared.url)
    with pytest.raises(ConfigError, match=r"the schema of redis://127.0.0.1.* is b'2', expected b'1'"):
        store.secret()
    store.close()


def test_a_redis_that_may_forget_says_so(tmp_path):
    said = []
    with redis_server(tmp_path / "redis", appendonly="no", **{"maxmemory-policy": "allkeys-lru"}) as redis:
        store = RedisStore(redis.url, say=said.append)
        store.secret()
        store.close()
    assert ["writes no append-only file" in said[0], "allkeys-lru" in said[1]] == [True, True]


def test_one_that_does_not_tell_its_settings_is_used_all_the_same(tmp_path):
    said = []
    with redis_server(tmp_path / "redis") as redis:
        only_ours = {"keys": [f"{PREFIX}*"], "commands": ["+@all", "-info"]}
        redis.client().acl_setuser("robot", enabled=True, passwords=["+hunter2"], **only_ours)
        store = RedisStore(redis.url.replace("//", "//robot:hunter2@"), say=said.append)
        assert 32 == len(store.secret())
        assert frozenset() == store.commit_held([record(model(0).session(1))], [])
        store.close()
    assert [] == said


@needs_openssl
def test_over_tls_the_authority_is_the_one_that_is_named(tmp_path):
    key, cert = make(tmp_path, "store")
    tls = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": cert, "tls-auth-clients": "no"}
    with redis_server(tmp_path / "redis", **{"tls-port": (port := free_port()), **tls}):
        url = f"rediss://127.0.0.1:{port}/0"
        for ours, works in ((f"{url}?ssl_ca_certs={cert}", True), (url, False)):
            store = RedisStore(ours)
            with nullcontext() if works else pytest.raises(StoreUnavailableError, match="certificate verify failed"):
                assert 32 == len(store.secret())
            store.close()


def test_a_redis_that_may_not_write_is_a_store_that_fails(tmp_path):
    with redis_server(tmp_path / "redis") as redis:
        store = RedisStore(redis.url)
        store.secret()
        redis.client().replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailableError, match="read only replica"):
            store.commit_held([record(model(0).session(1))], [])
        store.close()


def test_of_many_sessions_those_are_told_that_are_there(shared):
    here, there = RedisStore(shared.url), RedisStore(shared.url)
    kept, gone = record(model(0).session(1)), record(model(1).session(1))
    assert frozenset() == here.commit_held([kept, gone], [])
    assert frozenset() == here.commit_held([], [gone])
    names = ["session-0", "session-1", "session-2"]
    assert {"session-0": (0, False, kept.data), "session-1": (0, False, b"")} == {
        name: (seen.epoch, seen.mine, seen.data) for name, seen in there.look(names).items()
    }
    assert {"session-0": Seen(1, mine=True, data=kept.data)} == there.claim(names)
    assert {"session-0"} == here.commit_held([kept], [])
    here.close()
    there.close()


def test_a_large_group_is_written_piece_by_piece_so_that_none_is_late(shared, monkeypatch):
    monkeypatch.setattr("ccm_runtime.redis_store._PIECE_BYTES", 2_000)
    here, there = RedisStore(shared.url), RedisStore(shared.url)
    sessions = [record(model(index).session(1)) for index in range(8)]
    assert frozenset() == here.commit_held(sessions, [])
    there.claim(["session-1", "session-6"])
    before = shared.client().info("commandstats")["cmdstat_evalsha"]["calls"]
    assert {"session-1", "session-6"} == here.commit_held(sessions[:4], sessions[4:])
    assert 4 <= shared.client().info("commandstats")["cmdstat_evalsha"]["calls"] - before
    left = there.look([one.session_id for one in sessions])
    assert [True] * 4 + [False, False, True, False] == [bool(left[one.session_id].data) for one in sessions]
    here.close()
    there.close()
