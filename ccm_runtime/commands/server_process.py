"""`ccm serve` as a process of its own, for commands that need a server for a while."""

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ccm_runtime.config import PREFIX
from ccm_runtime.crash_points import VARIABLE
from ccm_runtime.errors import ConfigError, DeadlineError, DependencyMissingError, ServerUnreachableError

_ANNOUNCEMENT = "listening on "
_STOP_S = 10.0
_HANDED_ON = {f"{PREFIX}DEBUG", f"{PREFIX}DEVICE", VARIABLE}
"""All other `CCM_` variables are of the server that somebody runs in earnest: its store, its ports, its secrets."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A process that accepts calls at `address`, `HOST:PORT`."""

    address: str
    pid: int


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server_process(bundle: Path | None, start_limit_s: float = 60.0) -> Iterator[str]:
    """Serve a bundle on a free loopback port; yields `HOST:PORT` and stops the server afterwards.

    Args:
        bundle: Folder of the bundle; `None`: the embedded one.
        start_limit_s: Longest time until it accepts calls.

    Raises:
        DependencyMissingError: It lacks an extra.
        ConfigError: A setting of it is wrong.
        ServerUnreachableError: It ended otherwise before it accepted calls; the message holds its last words.
        DeadlineError: It did not accept calls in time.
    """
    named = [] if bundle is None else [str(bundle)]
    with listening_process("ccm_runtime", "serve", *named, "--port", "0", start_limit_s=start_limit_s) as server:
        yield server.address


@contextmanager
def listening_process(module: str, *flags: str, start_limit_s: float = 60.0) -> Iterator[Listening]:
    """Run a module that says `listening on HOST:PORT`; stops it afterwards. Raises as `server_process` does."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) or name in _HANDED_ON}
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and package
        [sys.executable, "-m", module, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )
    try:
        yield Listening(_address(process, start_limit_s), process.pid)
    finally:
        _stop(process)


def _address(process: "subprocess.Popen[str]", limit_s: float) -> str:
    """Read what the server says until it names its address; whatever follows is read and dropped."""
    assert process.stderr is not None  # noqa: S101  # it was asked for
    spoken: queue.Queue[str | None] = queue.Queue(maxsize=1_000)
    threading.Thread(target=_listen, args=(process.stderr, spoken), daemon=True).start()
    last = ""
    while True:
        try:
            line = spoken.get(timeout=limit_s)
        except queue.Empty:
            raise DeadlineError(f"`ccm serve` did not accept calls within {limit_s:g} s; it said: {last!r}") from None
        if line is None:
            said, code = last.removeprefix("ccm: error: ") or "nothing", process.wait()
            for error in (ConfigError, DependencyMissingError):
                if code == error.exit_code:
                    raise error(said)
            raise ServerUnreachableError(f"`ccm serve` ended with code {code} before it accepted calls: {said}")
        if _ANNOUNCEMENT in line:
            return line.rpartition(_ANNOUNCEMENT)[2].split()[0]
        last = line.strip() or last


def _listen(stream: IO[str], spoken: "queue.Queue[str | None]") -> None:
    for line in stream:
        if not spoken.full():
            spoken.put(line)
    spoken.put(None)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
