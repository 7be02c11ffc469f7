"""A bundle's graphs as a `Policy`. The only importer of onnxruntime.

One thread, no spinning, plain `run`: the fastest for networks this small at every batch size that we measured, and the
one that leaves the processor to others. The device is our choice, never onnxruntime's: it falls back in silence.
"""

import ctypes
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import numpy as np

from ccm_runtime.belief import Array, Folded, Transitions
from ccm_runtime.bundle import Bundle
from ccm_runtime.errors import (
    BundleSchemaError,
    ConfigError,
    DependencyMissingError,
    DeviceLostError,
    ProviderUnavailableError,
)
from ccm_runtime.machine import installed_version
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY
from ccm_runtime.signatures import Signature, fits, signatures, sized

Device = Literal["auto", "cpu", "cuda"]
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def load_runtime() -> ModuleType:
    """Return onnxruntime, if exactly one build of it is installed.

    Raises:
        DependencyMissingError: None is.
        ConfigError: Both are.
    """
    if installed_version("onnxruntime") and installed_version("onnxruntime-gpu"):
        raise ConfigError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; uninstall both, then "
            "install 'ccm[serve]' or 'ccm[serve-gpu]'"
        )
    try:
        return import_module("onnxruntime")
    except ImportError:
        raise DependencyMissingError("a bundle runs on onnxruntime: pip install 'ccm[serve]'") from None


class OnnxPolicy:
    """The three graphs of a bundle, behind the protocol that every agent follows.

    Attributes:
        observation: What it sees.
        action: What it does, in environment units.
        belief: What it remembers.
        adaptation: How its trials run.
        device: Where they truly run, `cpu` or `cuda`; `lost`: nowhere any more, as the GPU failed and no other device
            is allowed.
        failure: Why the GPU failed, in one line; empty: it has not.
        on_failure: Called once when it does, on whatever thread the networks ran.
    """

    def __init__(self, bundle: Bundle, device: Device = "cpu") -> None:
        """Open the graphs of a checked bundle on `device` (`auto`: CUDA if it is truly active).

        Raises:
            DependencyMissingError: onnxruntime is not installed.
            ConfigError: Both builds of onnxruntime are.
            ProviderUnavailableError: CUDA was asked for and is not truly active.
            BundleSchemaError: A graph cannot be opened, or does not follow the manifest.
        """
        manifest = bundle.manifest
        self.observation, self.action = manifest.observation, manifest.action
        self.belief, self.adaptation = manifest.belief, manifest.adaptation
        runtime = load_runtime()
        chosen = _choose(runtime, device)
        self.device: str = chosen
        self.failure = ""
        self.on_failure: Callable[[], None] = lambda: None
        self._graphs = _open_all(runtime, bundle.graphs, chosen)
        for name, signature in signatures(manifest).items():
            _check(name, self._graphs[name], signature)
            _rehearse(name, self._graphs[name], signature)
        # What to go on with when the GPU fails.
        may_change = device == "auto" and chosen == "cuda"
        self._on_cpu = partial(_open_all, runtime, bundle.graphs, "cpu") if may_change else None

    def explore(self, observation: Array, belief: Array, noise: Array) -> Array:
        """Action of the explorer, `[n, act]`; zero noise is deterministic."""
        feed = {"observation": observation, "belief": belief, "noise": noise}
        action: Array = self._run(EXPLORATION_POLICY, ["action"], feed)[0]
        return action

    def execute(self, observation: Array, latent: Array, noise: Array) -> Array:
        """Action of the executor, `[n, act]`; zero noise is deterministic."""
        feed = {"observation": observation, "latent": latent, "noise": noise}
        action: Array = self._run(EXECUTION_POLICY, ["action"], feed)[0]
        return action

    def fold(self, belief: Array, transitions: Transitions) -> Folded:
        """Belief after the transitions, and what it says of the task."""
        feed = {
            "belief": belief,
            "observation": transitions.observation,
            "action": transitions.action,
            "reward": transitions.reward,
            "next_observation": transitions.next_observation,
            "valid": transitions.valid,
        }
        return Folded(*self._run(CONTEXT_ENCODER, ["next_belief", "latent_mean", "latent_std"], feed))

    def _run(self, name: str, outputs: list[str], feed: dict[str, Array]) -> Any:
        """Run a graph; on the CPU from now on, if the GPU fails and that is allowed.

        Raises:
            DeviceLostError: The GPU failed (it is lost, or out of memory), and nothing else is allowed. It is not tried
                again: what it would answer after a failure is nothing to move a robot by.
        """
        if self.device == "lost":
            raise self._lost()
        try:
            return self._graphs[name].run(outputs, feed)
        except Exception as error:
            if self.device == "cpu":
                raise
            self.failure = _one_line(error)
            others = self._others()
            self.device = "lost" if others is None else "cpu"
            self.on_failure()
            if others is None:
                raise self._lost() from error
        self._graphs = others
        return self._graphs[name].run(outputs, feed)

    def _others(self) -> dict[str, Any] | None:
        """Return the graphs on the CPU; `None`: that is not allowed, or it cannot open them either."""
        try:
            return None if self._on_cpu is None else self._on_cpu()
        except BundleSchemaError as error:
            self.failure += f"; and on the CPU {error}"
            return None

    def _lost(self) -> DeviceLostError:
        return DeviceLostError(
            f"the GPU failed: {self.failure}; nothing is answered until the server is started again "
            "(--device auto goes on with the CPU)"
        )


def _choose(runtime: ModuleType, device: Device) -> Literal["cpu", "cuda"]:
    """Return the device to open sessions on, without asking onnxruntime for one that cannot work."""
    if device == "cpu":
        return "cpu"
    reason = _why_no_cuda(runtime)
    if reason is None:
        return "cuda"
    if device == "auto":
        return "cpu"
    raise ProviderUnavailableError(f"--device cuda: {reason}; mend that, or serve with --device cpu")


def _why_no_cuda(runtime: ModuleType) -> str | None:
    """Return why CUDA cannot be used, or `None` if nothing speaks against trying."""
    if _CUDA not in runtime.get_available_providers():
        return "this onnxruntime is built without CUDA (install 'ccm[serve-gpu]' instead of 'ccm[serve]')"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver on this machine (libcuda.so.1)"
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()
    return None


def _open(runtime: ModuleType, name: str, graph: bytes, device: Literal["cpu", "cuda"]) -> Any:
    """Return a session over a graph that truly runs on `device`."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    providers = [_CUDA, _CPU] if device == "cuda" else [_CPU]
    try:
        session = runtime.InferenceSession(graph, options, providers=providers)
    except Exception as error:
        raise BundleSchemaError(f"onnxruntime cannot open {name}: {_one_line(error)}") from error
    if session.get_providers()[0] != providers[0]:
        raise ProviderUnavailableError(
            f"--device cuda: onnxruntime fell back to {session.get_providers()[0]} for {name}; see `ccm doctor`"
        )
    return session


def _open_all(runtime: ModuleType, graphs: Mapping[str, bytes], device: Literal["cpu", "cuda"]) -> dict[str, Any]:
    return {name: _open(runtime, name, graph, device) for name, graph in sorted(graphs.items())}


def _check(name: str, session: Any, signature: Signature) -> None:
    """Refuse a graph whose inputs and outputs are not the manifest's."""
    sides = (("inputs", session.get_inputs(), signature.inputs), ("outputs", session.get_outputs(), signature.outputs))
    for side, found, wanted in sides:
        if {port.name for port in found} != set(wanted):
            raise BundleSchemaError(f"{name} has the {side} {sorted(p.name for p in found)}, expected {sorted(wanted)}")
        for port in found:
            if port.type != "tensor(float)" or not fits(port.shape, wanted[port.name]):
                raise BundleSchemaError(
                    f"{name}: {port.name} is {port.type} {port.shape}, expected tensor(float) {list(wanted[port.name])}"
                )


def _rehearse(name: str, session: Any, signature: Signature) -> None:
    """Run a graph on two batch sizes, so that one that cannot run is refused now and not at the first step."""
    for n, t in ((1, 1), (2, 3)):
        feed = {port: np.zeros(sized(shape, n=n, t=t), np.float32) for port, shape in signature.inputs.items()}
        try:
            answers = session.run(list(signature.outputs), feed)
        except Exception as error:
            raise BundleSchemaError(f"{name} does not run on a batch of {n}: {_one_line(error)}") from error
        for (port, shape), answer in zip(signature.outputs.items(), answers, strict=True):
            if answer.shape != sized(shape, n=n, t=t):
                raise BundleSchemaError(f"{name}: {port} has shape {answer.shape}, expected {sized(shape, n=n, t=t)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
