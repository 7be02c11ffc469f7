"""A policy behind BentoML (HTTP and JSON)."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import bentoml
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bare_policy import BarePolicy, announce_when, free_port

PROTOCOL, PATH = "http", "/act"


def request(policy: BarePolicy) -> bytes:
    """Ask for an action."""
    return json.dumps({"observation": policy.example().tolist()}).encode()


def action(response: bytes) -> list[float]:
    """Read an answer."""
    return list(json.loads(response))


@bentoml.service(workers=1, traffic={"timeout": 30}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Policy:
    """The policy in BentoML's words."""

    def __init__(self) -> None:
        self._policy = BarePolicy(os.environ["PEER_BUNDLE"])

    @bentoml.api
    async def act(self, observation: list[float]) -> list[float]:
        """Act."""
        told: list[float] = self._policy.act(np.asarray([observation], np.float32))[0].tolist()
        return told


def serve_policy(policy: BarePolicy) -> None:
    """Serve until killed."""
    del policy  # its workers load their own
    os.environ["BENTOML_DO_NOT_TRACK"] = "true"
    port = free_port()
    announce_when(port, lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close())
    command = [sys.executable, "-m", "bentoml", "serve", "bentoml_server:Policy", "--host", "127.0.0.1"]
    subprocess.run([*command, "--port", str(port)], check=True, cwd=Path(__file__).parent)  # noqa: S603
