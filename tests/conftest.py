"""What every test may ask for: a tiny bundle, and a Redis of the tests' own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis_server import RedisServer, redis_server
from tiny_bundle import write_tiny_bundle

from ccm_training.envs.mujoco.robots import choose_opengl

choose_opengl()  # before any test imports MuJoCo, which looks once

# Nothing is timed, and the same examples are tried every time; `--hypothesis-profile default` draws others.
settings.register_profile("ccm", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ccm")


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """A valid bundle of a scripted agent."""
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for every test that does not stop it; skips where there is no `redis-server`."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def shared(redis: RedisServer) -> RedisServer:
    """The same, with nothing in it."""
    redis.client().flushall()
    return redis
