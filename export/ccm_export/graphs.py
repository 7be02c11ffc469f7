"""Which modules become which graphs, and how: an agent's networks as the three ONNX graphs of a bundle."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ccm_export.encoder_graph import EncoderGraph
from ccm_export.memory_graphs import memory_modules
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY, Manifest
from ccm_runtime.signatures import Shape, Signature, signatures, sized
from ccm_training import belief as beliefs
from ccm_training.agent import Agent
from ccm_training.belief import Latent
from ccm_training.onpolicy.memory import MemoryAgent
from ccm_training.replay import Rows

OPSET = 20
# Not 0 or 1, which a tracer takes for constants, and not equal, so that no two sizes are taken for one.
_TRACED_BATCH, _TRACED_CHUNK = 2, 3


class ExplorationGraph(nn.Module):
    """observation, belief, noise -> action of the explorer, within the bounds."""

    def __init__(self, agent: Agent, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.agent, self.bounds = agent, _Bounds(low, high)

    def forward(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """`[n, obs]`, `[n, belief]`, `[n, act]` -> `[n, act]` in environment units."""
        inputs = self.agent.explorer_inputs(observation, belief)
        action: Tensor = self.bounds(self.agent.unscale_action(self.agent.explorer.actor(inputs, noise).action))
        return action


class MeanExplorationGraph(nn.Module):
    """observation, belief, noise -> action of the executor on the belief's mean.

    For agents that explore by posterior sampling. Their trials never call it (the runtime explores with the execution
    policy on a sampled latent), but the slot of the bundle is then filled by what is nearest to it.
    """

    def __init__(self, agent: Agent, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.execution = ExecutionGraph(agent, low, high)

    def forward(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """`[n, obs]`, `[n, belief]`, `[n, act]` -> `[n, act]` in environment units."""
        action: Tensor = self.execution(observation, beliefs.read(belief).mean, noise)
        return action


class ExecutionGraph(nn.Module):
    """observation, latent, noise -> action of the executor, within the bounds."""

    def __init__(self, agent: Agent, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.agent, self.bounds = agent, _Bounds(low, high)

    def forward(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """`[n, obs]`, `[n, latent]`, `[n, act]` -> `[n, act]` in environment units."""
        inputs = self.agent.executor_inputs(observation, latent)
        action: Tensor = self.bounds(self.agent.unscale_action(self.agent.executor.actor(inputs, noise).action))
        return action


class GaussianEncoderGraph(EncoderGraph):
    """The product of the factors of all transitions, in natural parameters: their sum."""

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """Add the transitions' factors."""
        after: Tensor = belief + self.agent.factors(rows).sum(1)
        return after

    def read(self, belief: Tensor) -> Latent:
        """The posterior."""
        return beliefs.read(belief)


class _Bounds(nn.Module):
    """The last rounding error must not leave the bounds."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, action: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(action, self.low), self.high)


def build_graphs(agent: nn.Module, manifest: Manifest) -> dict[str, bytes]:
    """Return the bytes of each graph of `manifest`, weights inside, without a trace of where they were made.

    The same agent gives the same bytes.
    """
    modules = _modules(copy.deepcopy(agent).cpu().eval(), manifest)
    return {name: to_onnx(modules[name].eval(), signature, name) for name, signature in signatures(manifest).items()}


def _modules(agent: nn.Module, manifest: Manifest) -> dict[str, nn.Module]:
    """What becomes each graph."""
    low, high = torch.from_numpy(manifest.action.low_array), torch.from_numpy(manifest.action.high_array)
    if isinstance(agent, MemoryAgent):
        return memory_modules(agent, _Bounds(low, high))
    assert isinstance(agent, Agent)  # noqa: S101 (there is no third kind that adapts by context)
    by_belief = manifest.adaptation.explore_with == "belief"
    return {
        EXPLORATION_POLICY: (ExplorationGraph if by_belief else MeanExplorationGraph)(agent, low, high),
        CONTEXT_ENCODER: GaussianEncoderGraph(agent),
        EXECUTION_POLICY: ExecutionGraph(agent, low, high),
    }


def to_onnx(module: nn.Module, signature: Signature, name: str) -> bytes:
    """Return `module` as a checked ONNX model of opset `OPSET` with the ports of `signature`.

    Args:
        module: Takes and returns tensors in the order of the signature.
        signature: Names and shapes; `n` and `t` become dynamic.
        name: Of the graph, for whoever opens it in a viewer.
    """
    example = tuple(torch.zeros(sized(shape, n=_TRACED_BATCH, t=_TRACED_CHUNK)) for shape in signature.inputs.values())
    with _quiet():
        program = torch.onnx.export(
            module,
            example,
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_shapes=tuple(_dynamic(shape) for shape in signature.inputs.values()),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # noqa: S101 (so it is where no file is asked for)
    model = program.model_proto
    strip(model)
    model.graph.name = name.removesuffix(".onnx")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _dynamic(shape: Shape) -> dict[int, Any]:
    return {axis: torch.export.Dim(size) for axis, size in enumerate(shape) if isinstance(size, str)}


def strip(model: onnx.ModelProto) -> None:
    """Remove notes that computing does not need: they hold source paths and stack traces of the exporting machine."""
    for part in [model, *model.functions, *_parts(model.graph)]:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    model.ClearField("producer_version")


def _parts(graph: onnx.GraphProto) -> Iterator[Any]:
    """The graph and all that is in it, loops' bodies included."""
    yield from (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _parts(attribute.g)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks (absent torchvision, its own deprecations) from users and from strict tests."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
