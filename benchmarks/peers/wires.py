"""The least of an HTTP and of a WebSocket client, beside `ccm_runtime.commands.bench_wire` for gRPC.

So that a client's cost does not hide a server's; for benchmarks on loopback only.
"""

import base64
import re
import socket

from ccm_runtime.errors import ServerError, ServerUnreachableError

_LIMIT_S = 20.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Line:
    """A connection that is read until an answer is whole."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), _LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._address = address
        self._received = bytearray()

    def receive(self) -> bytes | None:
        """Read once from the socket; return the answer if it is whole."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ServerUnreachableError("the server closed the connection")
        self._received += data
        return self._whole()

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

    def send(self, path: str, message: bytes) -> None:
        """Send a message."""
        raise NotImplementedError

    def _whole(self) -> bytes | None:
        raise NotImplementedError


class Http(_Line):
    """Posts JSON over one connection that stays open (HTTP/1.1)."""

    def send(self, path: str, message: bytes) -> None:
        """Send a message."""
        head = f"POST {path} HTTP/1.1\r\nhost: {self._address}\r\ncontent-type: application/json\r\n"
        self.socket.sendall(f"{head}content-length: {len(message)}\r\n\r\n".encode() + message)

    def _whole(self) -> bytes | None:
        head, blank, body = bytes(self._received).partition(b"\r\n\r\n")
        if not blank:
            return None
        if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
            raise ServerError(f"expected HTTP 200, got {head[:60]!r}")
        length = _LENGTH.search(head)
        if length is None:
            raise ServerError("expected an answer with a content-length")
        if len(body) < int(length[1]):
            return None
        self._received.clear()
        return body


class WebSocket(_Line):
    """Sends binary messages, each in one frame."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        key = base64.b64encode(bytes(16)).decode()
        self.socket.sendall(
            f"GET / HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-key: {key}\r\nsec-websocket-version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._received:
            self._received += self.socket.recv(1 << 16)
        self._received.clear()

    def send(self, path: str, message: bytes) -> None:
        """Send a message; its mask is zero, which changes nothing and is allowed."""
        del path
        size = bytes([0x80 | len(message)]) if len(message) < 126 else b"\xfe" + len(message).to_bytes(2, "big")
        self.socket.sendall(b"\x82" + size + bytes(4) + message)

    def _whole(self) -> bytes | None:
        received = self._received
        if len(received) < 2 or len(received) < 2 + received[1]:
            return None
        if received[0] != 0x82 or received[1] > 125:
            raise ServerError("expected one short binary frame")
        answer = bytes(received[2 : 2 + received[1]])
        received.clear()
        return answer
