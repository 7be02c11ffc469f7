"""The policy that every peer serves: a bundle's execution policy in onnxruntime, one thread, nothing around it."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


class BarePolicy:
    """The execution policy of the bundle in `folder`, on a latent of zeros, without noise."""

    def __init__(self, folder: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = str(Path(folder) / "execution_policy.onnx")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        widths = {port.name: port.shape[1] for port in self._session.get_inputs()}
        self.observation_size, self._latent, self._noise = widths["observation"], widths["latent"], widths["noise"]

    def act(self, observation: Any) -> Any:
        """Actions, `[n, act]`, of observations, `[n, obs]`."""
        num = len(observation)
        feed = {
            "observation": observation,
            "latent": np.zeros((num, self._latent), np.float32),
            "noise": np.zeros((num, self._noise), np.float32),
        }
        return self._session.run(["action"], feed)[0]

    def example(self) -> Any:
        """The observation that the benchmark asks about, `[obs]`."""
        return np.linspace(0.1, 0.3, self.observation_size, dtype=np.float32)


def announce(port: int) -> None:
    """Say that the server accepts calls."""
    sys.stderr.write(f"listening on 127.0.0.1:{port}\n")
    sys.stderr.flush()


def announce_when(port: int, answers: Callable[[], object]) -> None:
    """Say that the server accepts calls as soon as a call of `answers` does not fail; returns at once."""

    def watch() -> None:
        while True:
            try:
                answers()
            except Exception:
                time.sleep(0.1)
            else:
                return announce(port)

    threading.Thread(target=watch, daemon=True).start()


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
