"""The operator's page: one HTML file and one JSON, over HTTP from threads of their own.

What is shown is taken on the event loop in one turn, at most twice a second and only while somebody looks, however
many do; everything else happens on the page's threads, in short pieces. A step never waits for the page.
"""

import asyncio
import base64
import concurrent.futures
import hashlib
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files

from ccm_runtime.config import ServerConfig, is_loopback
from ccm_runtime.errors import ConfigError
from ccm_runtime.page.state import Ages, Plane, View, write_state
from ccm_runtime.tenants import TokenFile, Tokens
from ccm_runtime.tls import web_context
from ccm_runtime.web import Reply, Request, Web

FRESH_S = 0.5
PATIENCE_S = 2.0  # with an event loop that does not turn
_REST_S = 0.0002
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Page:
    """Answers for the page.

    Args:
        look: Takes a view; called on `loop`.
        tokens: Who may look; `None`: whoever is on this machine.
        loop: The event loop of the service.
    """

    def __init__(
        self,
        look: Callable[[], View],
        tokens: Tokens | TokenFile | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._look = look
        self._plane: Plane | None = None
        self._tokens = tokens
        self._loop = loop
        self._html, policy = _html()
        self._html_headers = _HEADERS | {"Content-Security-Policy": policy}
        self._lock = threading.Lock()
        self._ages: dict[str, Ages] = {}
        self._written: dict[str, tuple[float, bytes]] = {}  # by tenant: when, and what

    def answer(self, request: Request) -> Reply:
        """Answer one request; called from any thread."""
        if self._tokens is None and not _names_loopback(request.headers.get("host", "")):
            # A page from elsewhere whose name was made to point here must not read what this machine alone may see.
            return _refusal(HTTPStatus.MISDIRECTED_REQUEST, "open this page as http://127.0.0.1 or http://localhost")
        if request.path == "/":
            return Reply(self._html, content_type="text/html; charset=utf-8", headers=self._html_headers)
        if request.path != "/state.json":
            return _refusal(HTTPStatus.NOT_FOUND, "there is / and /state.json")
        tenant = (
            "" if self._tokens is None else self._tokens.tenant_of(request.headers.get("authorization", "").encode())
        )
        if tenant is None:
            return _refusal(
                HTTPStatus.UNAUTHORIZED, "this page wants the server's token", {"WWW-Authenticate": "Bearer"}
            )
        try:
            return Reply(self._state(tenant), content_type="application/json", headers=_HEADERS)
        except TimeoutError:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server does not answer")

    def _state(self, tenant: str) -> bytes:
        """Return the JSON that a tenant may see, as it was written at most `FRESH_S` ago."""
        with self._lock:
            written_s, state = self._written.get(tenant, (0.0, b""))
            now_s = time.monotonic()
            if not state or now_s - written_s > FRESH_S:
                ages = self._ages.setdefault(tenant, Ages())
                view = self._take()
                if self._plane is None or self._plane.digest != view.digest:
                    self._plane = Plane(view.digest, view.manifest)
                state = write_state(view, self._plane, ages, tenant=tenant, rest=_rest)
                self._written[tenant] = now_s, state
            return state

    def _take(self) -> View:
        taken: concurrent.futures.Future[View] = concurrent.futures.Future()

        def take() -> None:
            try:
                taken.set_result(self._look())
            except Exception as error:  # handed to whoever looks
                taken.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(take)
        except RuntimeError:  # the loop is closed
            raise TimeoutError from None
        return taken.result(PATIENCE_S)


def serve_page(look: Callable[[], View], tokens: TokenFile | None, config: ServerConfig, port: int) -> Web:
    """Serve the page where the service listens, under the same token and certificate; call it on the event loop.

    Raises:
        ConfigError: The address cannot be listened on, or others could look without a token.
    """
    tls = web_context(config)
    if not is_loopback(config.host) and (tokens is None or tls is None):
        raise ConfigError(
            f"host {config.host} can be reached from other machines; there the page needs --token-file, --tls-cert "
            "and --tls-key"
        )
    page = Page(look, tokens, asyncio.get_running_loop())
    return Web(config.host, port, page.answer, setting="--page-port", tls=tls)


def _refusal(status: HTTPStatus, why: str, headers: dict[str, str] | None = None) -> Reply:
    return Reply(f"{why}\n".encode(), status, headers=_HEADERS | (headers or {}))


def _names_loopback(host: str) -> bool:
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name)


def _html() -> tuple[bytes, str]:
    """Return the page, and the policy under which nothing but its own style and script can act in it."""
    parts = files("ccm_runtime.page")
    html, style, script = (parts.joinpath(name).read_text("utf-8") for name in ("page.html", "page.css", "page.js"))
    policy = (
        f"default-src 'none'; script-src '{_source(script)}'; style-src '{_source(style)}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html.replace("/*style*/", style).replace("/*script*/", script).encode(), policy


def _source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _rest() -> None:
    """Leave the interpreter to the event loop for a moment."""
    time.sleep(_REST_S)
