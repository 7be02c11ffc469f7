"""A flag wins over a variable, a variable over the default; what is unsafe or wrong is refused in one line."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from ccm_runtime.config import ServerConfig, _near, is_loopback
from ccm_runtime.errors import ConfigError
from ccm_runtime.recovery import store_of


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default():
    environ = {"CCM_PORT": "1234", "CCM_MAX_SESSIONS": "7", "HOME": "/"}
    config = ServerConfig.resolve({"port": 99, "host": None}, environ)
    assert (99, 7, "127.0.0.1") == (config.port, config.max_sessions, config.host)


def test_an_empty_variable_is_not_the_current_folder_and_a_flag_wins_over_it():
    for name in ("CCM_RECORD", "CCM_AGENTS", "CCM_BUNDLE"):
        with pytest.raises(ConfigError, match=f"{name}: expected a value, got nothing"):
            ServerConfig.resolve({}, {name: ""})
    assert Path("r") == ServerConfig.resolve({"record": Path("r")}, {"CCM_RECORD": ""}).record


def test_a_variable_that_is_almost_a_settings_is_warned_of_and_others_are_not():
    with pytest.warns(UserWarning, match="CCM_MAX_SESSION is no setting of a server; did you mean CCM_MAX_SESSIONS"):
        ServerConfig.resolve({}, {"CCM_MAX_SESSION": "3"})
    settings = {"CCM_" + name.upper() for name in ServerConfig.model_fields}
    others = ("CCM_DEBUG", "CCM_PORT_7070_TCP", "CCM_SERVICE_HOST", "CCM_SERVICE_PORT", "CCM_HOME")
    assert [] == [name for name in (*settings, *others) if _near(name, ServerConfig.model_fields)]


def test_limits_are_read_from_a_variable_too():
    config = ServerConfig.resolve({"fallback": None}, {"CCM_MAX_RATE": "0.5,1", "CCM_FALLBACK": "hold"})
    assert ((0.5, 1.0), "hold") == (config.max_rate, config.fallback)


@pytest.mark.parametrize(("text", "is_url"), [("redis:6379", True), ("rediss://h/0", True), ("redis.db", False)])
def test_a_url_of_a_store_that_is_mistyped_is_no_file(text, is_url):
    assert is_url == isinstance(ServerConfig.resolve({"store": text}, {}).store, SecretStr)


def test_every_setting_is_documented():
    documented = set(re.findall(r"(\w+): ", ServerConfig.__doc__ or ""))
    assert set(ServerConfig.model_fields) <= documented


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"port": 70_000}, "^port: expected a number less than or equal to 65535, got 70000$"),
        ({"port": "x"}, "^port: expected an integer, got 'x'$"),
        ({"otel": "maybe"}, "^otel: expected true or false, got 'maybe'$"),
        ({"max_sessions": 0}, "^max_sessions: expected a number greater than or equal to 1, got 0$"),
        ({"device": "tpu"}, "^device: expected 'auto', 'cpu' or 'cuda', got 'tpu'$"),
        ({"action_deadline_ms": float("inf")}, "^action_deadline_ms: expected a number less than .*, got inf$"),
        ({"action_valid_ms": 2**32}, "^action_valid_ms: expected a number less than or equal to 86400000, got"),
        ({"drain_s": float("inf")}, "^drain_s: expected a number less than or equal to 86400, got inf$"),
        ({"unheard_of": 1}, "unheard_of: "),
        ({"max_rate": "0.5,-1"}, r"max_rate: expected a positive number for each entry .* got '0\.5,-1'"),
        ({"max_rate": (0.5, float("inf"))}, "max_rate.1: "),
        ({"fallback": "stop"}, "fallback: "),
        ({"tls_cert": "a.pem"}, "tls_cert and tls_key go together"),
        ({"store": "s.db", "store_password_file": "p"}, "store_password_file is for a store with a URL"),
        ({"store": "redis://h/0", "store_sync": "full"}, "set appendfsync in its own settings"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(flags, message):
    with pytest.raises(ConfigError, match=message) as refused:
        ServerConfig.resolve(flags, {})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "value"), [("store_failure", "refuse"), ("store_sync", "full")])
def test_who_asks_for_durable_sessions_without_a_store_is_not_given_memory(name, value):
    for flags, variables in (({name: value}, {}), ({}, {f"CCM_{name.upper()}": value})):
        with pytest.raises(ConfigError, match=f"^{name} {value} is for durable sessions; .* --store"):
            ServerConfig.resolve(flags, variables)
        assert value == getattr(ServerConfig.resolve({"store": "s.db", **flags}, variables), name)
    ServerConfig.resolve({name: ServerConfig.model_fields[name].default}, {})  # as without a store anyway


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4", "robot.example", ""])  # noqa: S104 (refused)
def test_beyond_loopback_needs_tls_and_a_token(host):
    assert not is_loopback(host)
    pair = {"tls_cert": Path("c"), "tls_key": Path("k")}
    for partial in ({}, pair, {"token_file": Path("t")}):
        with pytest.raises(ConfigError, match="reached from other machines"):
            ServerConfig.resolve({"host": host, **partial}, {})
    assert host == ServerConfig.resolve({"host": host, **pair, "token_file": Path("t")}, {}).host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_loopback_needs_nothing(host):
    assert is_loopback(host)
    assert host == ServerConfig(host=host).host


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")])
def test_an_address_is_one_that_clients_take(host, expected):
    assert expected == ServerConfig(host=host).address(1)


def test_a_store_is_a_file_or_a_url_whose_password_is_not_shown():
    assert Path("s.db") == ServerConfig.resolve({"store": "s.db"}, {}).store
    config = ServerConfig.resolve({}, {"CCM_STORE": "rediss://robot:hunter2@store:6379/1"})
    assert "rediss://robot:hunter2@store:6379/1" == config.store.get_secret_value()
    assert "hunter2" not in f"{config} {config!r}"


@pytest.mark.parametrize("mistyped", ["Redis://:hunter2@store", "redi://:hunter2@store/0"])
def test_a_url_that_is_mistyped_is_not_repeated(mistyped):
    with pytest.raises(ConfigError, match="store: ") as refused:
        store_of(ServerConfig(store=mistyped), None)
    assert "hunter2" not in str(refused.value)
