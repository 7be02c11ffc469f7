"""Chromium without a window, told what to do over a pipe (the DevTools protocol; messages end with a zero byte)."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LIMIT_S = 30.0
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="looks at the page with Chromium, which is not installed")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-default-apps", "--disable-extensions", "--disable-sync", "--no-first-run",
    "--hide-scrollbars", "--mute-audio", "--remote-debugging-pipe", "about:blank",
)  # fmt: skip


class Browser:
    """A running Chromium."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._heard = b""
        self._number = 0

    def call(self, method: str, tab: str | None = None, **parameters):
        """Return what a method of the protocol returns."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._send, json.dumps(message | ({} if tab is None else {"sessionId": tab})).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self) -> dict:
        deadline = time.monotonic() + LIMIT_S
        while b"\0" not in self._heard:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            self._heard += os.read(self._receive, 1 << 20)
        message, _, self._heard = self._heard.partition(b"\0")
        return json.loads(message)


class Tab:
    """One page in a browser."""

    def __init__(self, browser: Browser, url: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._tab = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.enable")
        self.call("Page.navigate", url=url)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def call(self, method: str, **parameters):
        """Return what a method returns for this page."""
        return self._browser.call(method, self._tab, **parameters)

    def value(self, expression: str):
        """Return the value of a JavaScript expression."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + LIMIT_S
        while not self.value(expression):
            shown = self.value("document.body?.innerText")
            assert time.monotonic() < deadline, f"never true: {expression}; the page shows:\n{shown}"
            select.select([], [], [], 0.05)

    def text(self, selector: str) -> str:
        """Return the text of an element; nothing if it cannot be seen."""
        shown = f"[document.querySelector({json.dumps(selector)})].filter((found) => found?.checkVisibility())"
        return self.value(f"{shown}[0]?.innerText ?? ''")

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        height = self.value("document.documentElement.scrollHeight")
        width = self.value("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile in that folder; stop it afterwards."""
    child_reads, we_send = os.pipe()
    we_receive, child_writes = os.pipe()
    command = f'exec "$0" "$@" 3<&{child_reads} 4>&{child_writes}'
    process = subprocess.Popen(
        ["bash", "-c", command, CHROMIUM, f"--user-data-dir={profile}", *_FLAGS],
        pass_fds=(child_reads, child_writes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(child_reads)
    os.close(child_writes)
    try:
        browser = Browser(we_send, we_receive)
        yield browser
        browser.call("Browser.close")
    finally:
        process.kill()
        process.wait()
        os.close(we_send)
        os.close(we_receive)
