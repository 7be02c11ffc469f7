"""A real `redis-server` of a test's own, and stores in it."""

import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest
from redis import Redis

from ccm_runtime.commands.server_process import free_port
from ccm_runtime.redis_store import PREFIX, RedisStore
from ccm_runtime.store import Record

LIMIT_S = 30.0


class RedisServer:
    """A Redis on a port and a folder of its own, that syncs its append-only file before it answers.

    Args:
        folder: Where its file is; what is there it goes on with.
        flags: More of its settings, `name="value"`.
    """

    def __init__(self, folder, **flags):
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not on PATH; on Debian and Ubuntu: apt install redis-server")
        self.port = free_port()
        told = {"appendonly": "yes", "appendfsync": "always", "save": "", **flags}
        words = [word for name, value in told.items() for word in (f"--{name}", str(value))]
        self._command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder), *words]
        self._process = None
        self.start()

    @property
    def url(self):
        """Of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + LIMIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"redis-server did not start: {' '.join(self._command)}")
            time.sleep(0.01)

    def signal(self, number):
        """Stop it, let it go on."""
        self._process.send_signal(number)

    def kill(self):
        """End it as a power cut would, save that the kernel keeps what was not synced."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self._process.wait()

    def client(self):
        """The package's own client, to look at what is stored."""
        return Redis.from_url(self.url)

    def _answers(self):
        """Whether it has read its file; it says LOADING before."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as asked:
                asked.sendall(b"PING\r\n")
                return asked.recv(64)[:1] in {b"+", b"-"} and self._loaded(asked)
        except OSError:
            return False

    def _loaded(self, asked):
        asked.sendall(b"PING\r\n")
        return not asked.recv(64).startswith(b"-LOADING")


class WholeStore(RedisStore):
    """A shared store seen as a store of one server: what the laws of every store are tried with."""

    def read(self):
        """Every record."""
        found = []
        for key in self._client.scan_iter(f"{PREFIX}session:*", count=1_000):
            data = self._client.hget(key, "record")
            if data is not None:
                found.append(Record(key.decode().rpartition(":")[2], data))
        return found

    def commit(self, saved, removed):
        """Write and remove, under the epoch of who never claimed."""
        assert not self.commit_held(saved, [Record(name, b"") for name in removed])

    def tidy(self):
        """A Redis tidies itself."""


@contextmanager
def redis_server(folder, **flags):
    """A server for the while of a block; it leaves nothing behind."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder, **flags)
    try:
        yield server
    finally:
        server.kill()


def server_version():
    """Of the `redis-server` on PATH."""
    said = subprocess.run(["redis-server", "--version"], check=True, capture_output=True, text=True)
    return said.stdout.partition("v=")[2].split()[0]
