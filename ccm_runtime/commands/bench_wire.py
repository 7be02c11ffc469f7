"""The least of a gRPC client: a socket and HTTP/2 frames by hand, so that a client's cost does not hide a server's.

For benchmarks on loopback only. Messages are small and every one is answered before the next, so no window of the peer
is ever used up and flow control needs no account here.
"""

import struct

from ccm_runtime.commands.bench_connection import Connection
from ccm_runtime.errors import ServerError

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_WINDOW_SIZE = 2**31 - 1
_DEFAULT_WINDOW = 2**16 - 1
_FIRST_DYNAMIC = 62  # of an HPACK table, where the newest field is


class Wire(Connection):
    """One connection with one call at a time; `stream` calls stay open, unary ones end with each answer.

    Args:
        address: `HOST:PORT`.
        stream: Whether calls stream.
    """

    def __init__(self, address: str, *, stream: bool) -> None:
        super().__init__(address)
        self._stream = stream
        self._authority = address.encode()
        self._sent_fields: list[tuple[bytes, bytes]] = []
        self._call = -1
        self._open = self._refused = False
        self._message = bytearray()
        wide = struct.pack(">HI", 4, _WINDOW_SIZE)
        more = struct.pack(">I", _WINDOW_SIZE - _DEFAULT_WINDOW)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self.socket.sendall(preface + _frame(_SETTINGS, 0, 0, wide) + _frame(_WINDOW, 0, 0, more))

    def send(self, path: str, message: bytes) -> None:
        """Send a message; on a stream that is open, `path` is its own already."""
        frames = b""
        if not self._open:
            self._call += 2
            self._open = True
            frames = _frame(_HEADERS, _END_HEADERS, self._call, self._fields(path.encode()))
        body = struct.pack(">BI", 0, len(message)) + message
        self.socket.sendall(frames + _frame(_DATA, 0 if self._stream else _END_STREAM, self._call, body))

    def _answer(self) -> bytes | None:
        answer = None
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + size:
                break
            kind, flags = self._received[3], self._received[4]
            payload = bytes(self._received[9 : 9 + size])
            del self._received[: 9 + size]
            answer = self._take(kind, flags, payload) or answer
        if answer is None and self._refused:
            raise ServerError("the server refused the call, or ended the stream")
        return None if answer is None else answer[5:]

    def _take(self, kind: int, flags: int, payload: bytes) -> bytes | None:
        """Take a frame in; return the message that it completes, with its prefix."""
        if kind in {_SETTINGS, _PING} and not flags & _ACK:
            self.socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _GOAWAY or (kind == _RESET and any(payload)):  # a reset without an error follows a call's end
            raise ServerError("the server reset the call")
        elif kind in {_DATA, _HEADERS}:
            self._message += payload if kind == _DATA else b""
            ended = bool(flags & _END_STREAM)
            self._open = self._open and not ended
            self._refused = ended and not self._message
            if self._stream or ended:
                return self._whole()
        return None

    def _whole(self) -> bytes | None:
        if len(self._message) < 5 or len(self._message) < 5 + int.from_bytes(self._message[1:5], "big"):
            return None
        message, self._message = bytes(self._message), bytearray()
        return message

    def _fields(self, path: bytes) -> bytes:
        """Return the header block of a call; a field that was sent before is sent as its number."""
        block = b"\x83\x86"  # :method POST, :scheme http
        wanted = (b":path", path), (b":authority", self._authority), (b"content-type", b"application/grpc")
        for field in (*wanted, (b"te", b"trailers")):
            if field in self._sent_fields:
                block += bytes([0x80 | (_FIRST_DYNAMIC + self._sent_fields.index(field))])
            else:
                self._sent_fields.insert(0, field)
                block += b"\x40" + b"".join(bytes([len(part)]) + part for part in field)
        return block


def _frame(kind: int, flags: int, call: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", call) + payload
