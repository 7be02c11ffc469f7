"""The least of an HTTP and of a WebSocket client, beside `ccm_runtime.commands.bench_wire` for gRPC.

So that a client's cost does not hide a server's; for benchmarks on loopback only.
"""

import base64
import re

from ccm_runtime.commands.bench_connection import Connection
from ccm_runtime.errors import ServerError

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Http(Connection):
    """Posts JSON over one connection that stays open (HTTP/1.1)."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._address = address

    def send(self, path: str, message: bytes) -> None:
        """Send a message."""
        head = f"POST {path} HTTP/1.1\r\nhost: {self._address}\r\ncontent-type: application/json\r\n"
        self.socket.sendall(f"{head}content-length: {len(message)}\r\n\r\n".encode() + message)

    def _answer(self) -> bytes | None:
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


class WebSocket(Connection):
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

    def _answer(self) -> bytes | None:
        received = self._received
        if len(received) < 2 or len(received) < 2 + received[1]:
            return None
        if received[0] != 0x82 or received[1] > 125:
            raise ServerError("expected one short binary frame")
        answer = bytes(received[2 : 2 + received[1]])
        received.clear()
        return answer
