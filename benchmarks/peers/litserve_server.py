"""A policy behind LitServe (HTTP and JSON), with its batching on."""

import json
import os
import urllib.request
from typing import Any

import litserve
import numpy as np
from bare_policy import BarePolicy, announce_when, free_port

PROTOCOL, PATH = "http", "/predict"


def request(policy: BarePolicy) -> bytes:
    """Ask for an action."""
    return json.dumps({"observation": policy.example().tolist()}).encode()


def action(response: bytes) -> list[float]:
    """Read an answer."""
    return list(json.loads(response)["action"])


class Api(litserve.LitAPI):
    """The policy in LitServe's words."""

    def setup(self, device: str) -> None:
        """Load it in the worker."""
        del device
        self.policy = BarePolicy(os.environ["PEER_BUNDLE"])

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Read a request."""
        return np.asarray(request["observation"], np.float32)

    def batch(self, inputs: list[Any]) -> Any:
        """Put requests together."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Act."""
        return self.policy.act(x)

    def unbatch(self, output: Any) -> list[Any]:
        """Take answers apart."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Write an answer."""
        return {"action": output.tolist()}


def serve_policy(policy: BarePolicy) -> None:
    """Serve until killed."""
    del policy  # its workers load their own
    api = Api(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
    port = free_port()
    announce_when(port, lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close())
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")
