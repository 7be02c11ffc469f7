"""One connection of a benchmark's client, whatever is spoken on it; for benchmarks on loopback only."""

import socket
from abc import ABC, abstractmethod

from ccm_runtime.errors import ServerUnreachableError

_LIMIT_S = 20.0  # longest wait for an answer


class Connection(ABC):
    """A connection to a server, with one exchange at a time.

    Args:
        address: `HOST:PORT`.

    Attributes:
        socket: What to wait on.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), _LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()

    @abstractmethod
    def send(self, path: str, message: bytes) -> None:
        """Send a message."""

    @abstractmethod
    def _answer(self) -> bytes | None:
        """Take what was received; return the answer if it is whole."""

    def receive(self) -> bytes | None:
        """Read once from the socket; return the answer if it is whole.

        Raises:
            ServerUnreachableError: The server closed the connection.
            ServerError: It refused or ended the call.
        """
        data = self.socket.recv(1 << 16)
        if not data:
            raise ServerUnreachableError("the server closed the connection")
        self._received += data
        return self._answer()

    def wait(self) -> bytes:
        """Wait for an answer."""
        while (answer := self.receive()) is None:
            pass
        return answer

    def exchange(self, path: str, message: bytes) -> bytes:
        """Send a message and wait for its answer."""
        self.send(path, message)
        return self.wait()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
