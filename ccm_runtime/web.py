"""A small HTTP server beside the service: GET alone, on threads of its own, and every bound of it small.

Nothing here touches the event loop of the service; what an answer needs of it is the answer's own business.
"""

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ccm_runtime.errors import ConfigError

MAX_CONNECTIONS = 16
MAX_HEAD_BYTES = 8 << 10
LIFE_S = 10.0  # of a connection, from its beginning to its end
_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a path without its query, and headers by their names in lower case."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    body: bytes = b""
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = _PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Reply]


class Web:
    """Answers GET at an address until it is stopped; a further connection than `MAX_CONNECTIONS` is closed at once.

    Attributes:
        port: Where it listens.
    """

    def __init__(
        self, host: str, port: int, answer: Answer, *, setting: str, tls: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        """Begin to listen.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 takes a free one.
            answer: Is called from many threads.
            setting: Flag that names the port, for errors.
            tls: How to speak to the next connection; `None`: plain text.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        try:
            self._server = _Server(host.strip("[]"), port, answer, tls)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose another {setting}") from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name=setting.removeprefix("--"), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, host: str, port: int, answer: Answer, tls: Callable[[], ssl.SSLContext] | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer = answer
        self._tls = tls
        self._began_s: dict[Any, float] = {}
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; hands are shaken by its own thread."""
        connection, peer = super().get_request()
        connection.settimeout(LIFE_S)
        if self._tls is None:
            return connection, peer
        try:
            return self._tls().wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer
        except Exception as error:
            connection.close()
            raise OSError("no TLS") from error  # the one kind of error that ends this connection alone

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread, if there is room for one more."""
        if len(self._began_s) >= MAX_CONNECTIONS:
            self.shutdown_request(request)
            return
        self._began_s[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self._began_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End what takes too long; called twice a second."""
        for request, began_s in list(self._began_s.items()):
            if time.monotonic() - began_s > LIFE_S:
                with suppress(OSError):  # it has just ended by itself
                    socket.socket.shutdown(request, socket.SHUT_RDWR)  # its thread wakes from any read, and closes it

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that fails is its peer's affair."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def setup(self) -> None:
        """Read the whole head, and no more than is allowed."""
        super().setup()
        head = bytearray()
        while line := self.rfile.readline(MAX_HEAD_BYTES + 1 - len(head)):
            head += line
            if line in {b"\r\n", b"\n"} or len(head) > MAX_HEAD_BYTES:
                break
        self._too_long = len(head) > MAX_HEAD_BYTES
        self.rfile.close()
        self.rfile = io.BytesIO(head)

    def parse_request(self) -> bool:
        """Refuse everything but a GET of a usual size."""
        if not super().parse_request():
            return False
        if self._too_long:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        if self.command != "GET":
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
            return False
        return True

    def do_GET(self) -> None:
        """Answer."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.server.answer(Request(self.path.partition("?")[0], headers)))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse in a word; nothing of the request is in it."""
        del message, explain
        status = HTTPStatus(code)
        allow = {"Allow": "GET"} if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        self._send(Reply(f"{status.phrase}\n".encode(), status, headers=allow))

    def _send(self, reply: Reply) -> None:
        self.request_version = self.protocol_version  # else the library answers nonsense without a status
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def version_string(self) -> str:
        """Say no version."""
        return "ccm"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the library's)
        """Log nothing."""
