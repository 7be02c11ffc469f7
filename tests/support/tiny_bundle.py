"""Write a tiny valid bundle whose graphs compute what `ScriptedPolicy` computes."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ccm_runtime.manifest import (
    CONTEXT_ENCODER,
    EXECUTION_POLICY,
    EXPLORATION_POLICY,
    MODEL_CARD,
    Adaptation,
    FileDigest,
    Manifest,
    SafetyLimits,
    to_bytes,
)
from ccm_runtime.signatures import Signature, signatures
from ccm_runtime.testing import ScriptedPolicy, manifest_of


def tiny_graphs(manifest: Manifest) -> dict[str, bytes]:
    """Return the three graphs."""
    size = manifest.observation.size
    constants = {
        "zero": np.array([0], np.int64),
        "middle": np.array([size], np.int64),
        "end": np.array([2 * size], np.int64),
        "last": np.array([1], np.int64),
        "tenth": np.float32(0.1),
        "half": np.float32(0.5),
    }
    split = [
        ("Slice", ["belief", "zero", "middle", "last"], "precision"),
        ("Slice", ["belief", "middle", "end", "last"], "weighted"),
    ]
    jitter = ("Mul", ["noise", "tenth"], "jitter")
    explorer = [
        *split,
        jitter,
        ("Div", ["weighted", "precision"], "mean"),
        ("Sub", ["observation", "mean"], "away"),
        ("Add", ["away", "jitter"], "noisy"),
        ("Tanh", ["noisy"], "action"),
    ]
    executor = [
        jitter,
        ("Sub", ["latent", "observation"], "towards"),
        ("Add", ["towards", "jitter"], "noisy"),
        ("Tanh", ["noisy"], "action"),
    ]
    encoder = [
        ("Mul", ["observation", "half"], "half_before"),
        ("Sub", ["next_observation", "half_before"], "moved"),
        ("Add", ["moved", "action"], "seen"),
        ("Add", ["seen", "reward"], "rewarded"),
        ("Tanh", ["rewarded"], "factor"),
        ("Mul", ["factor", "zero_f"], "nothing"),
        ("Add", ["nothing", "half"], "halves"),
        ("Mul", ["factor", "half"], "half_factor"),
        ("Concat", ["halves", "half_factor"], "parts"),
        ("Mul", ["parts", "valid"], "counted"),
        ("ReduceSum", ["counted", "last"], "added"),
        ("Add", ["belief", "added"], "next_belief"),
        ("Slice", ["next_belief", "zero", "middle", "last"], "precision"),
        ("Slice", ["next_belief", "middle", "end", "last"], "weighted"),
        ("Div", ["weighted", "precision"], "latent_mean"),
        ("Sqrt", ["precision"], "root"),
        ("Reciprocal", ["root"], "latent_std"),
    ]
    constants["zero_f"] = np.float32(0.0)
    nodes = {EXPLORATION_POLICY: explorer, CONTEXT_ENCODER: encoder, EXECUTION_POLICY: executor}
    return {name: _graph(nodes[name], signature, constants) for name, signature in signatures(manifest).items()}


def _graph(nodes: list, signature: Signature, constants: dict) -> bytes:
    attributes = {"Concat": {"axis": 2}, "ReduceSum": {"keepdims": 0}}
    made = [helper.make_node(op, inputs, [output], **attributes.get(op, {})) for op, inputs, output in nodes]
    used = {name for _, inputs, _ in nodes for name in inputs}

    def ports(shapes):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in shapes.items()]

    graph = helper.make_graph(
        made,
        "tiny",
        ports(signature.inputs),
        ports(signature.outputs),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_bundle(folder: Path, manifest: Manifest, graphs: dict[str, bytes], card: str = "# A tiny agent\n") -> Path:
    """Write a bundle whose digests are right, whatever is in it."""
    folder.mkdir(parents=True)
    contents = {**graphs, MODEL_CARD: card.encode()}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    files = {n: FileDigest(size_bytes=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in contents.items()}
    (folder / "manifest.json").write_bytes(to_bytes(manifest.model_copy(update={"files": files})))
    return folder


def write_tiny_bundle(folder: Path, adaptation: Adaptation | None = None, safety: SafetyLimits | None = None) -> Path:
    """Write the bundle of a scripted agent."""
    policy = ScriptedPolicy() if adaptation is None else ScriptedPolicy(adaptation)
    manifest = manifest_of(policy, safety=safety)
    return write_bundle(folder, manifest, tiny_graphs(manifest))
