"""The graphs of a policy with a memory: its encoder runs a GRU over a chunk of transitions, however long that is."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ccm_export.encoder_graph import EncoderGraph
from ccm_runtime.errors import DependencyMissingError
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY
from ccm_training.belief import Latent
from ccm_training.onpolicy.memory import MemoryAgent
from ccm_training.replay import Rows


def torch_scan() -> Callable[..., Any]:
    """What torch's exporter turns into ONNX's Scan; its documentation has it under this name, as a prototype.

    Raises:
        DependencyMissingError: This torch has it under another name, or no more.
    """
    try:
        from torch._higher_order_ops import scan  # noqa: PLC0415  (agents without a memory need none)
    except ImportError as error:
        raise DependencyMissingError(
            f"torch {torch.__version__} has no torch._higher_order_ops.scan, with which agents of the methods rl2 and "
            "varibad are exported; install a version that has it: pip install 'torch>=2.11,<2.14'"
        ) from error
    found: Callable[..., Any] = scan
    return found


class MemoryExplorationGraph(nn.Module):
    """observation, belief, noise -> action; trials never call it, as they explore with the execution policy."""

    def __init__(self, agent: MemoryAgent, bounds: nn.Module) -> None:
        super().__init__()
        self.agent, self.bounds = agent, bounds

    def forward(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """`[n, obs]`, `[n, belief]`, `[n, act]` -> `[n, act]` in environment units."""
        action: Tensor = self.bounds(self.agent.action(observation, self.agent.readout(belief).mean, noise))
        return action


class MemoryExecutionGraph(nn.Module):
    """observation, latent, noise -> action."""

    def __init__(self, agent: MemoryAgent, bounds: nn.Module) -> None:
        super().__init__()
        self.agent, self.bounds = agent, bounds

    def forward(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """`[n, obs]`, `[n, latent]`, `[n, act]` -> `[n, act]` in environment units."""
        action: Tensor = self.bounds(self.agent.action(observation, latent, noise))
        return action


class MemoryEncoderGraph(EncoderGraph):
    """A GRU over the chunk, one transition after the other."""

    def __init__(self, agent: MemoryAgent) -> None:
        super().__init__(agent)
        self.scan = torch_scan()

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """The hidden state after the transitions."""

        def step(memory: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            after: Tensor = self.agent.remember(memory, *now)
            return after, after.clone()  # a scan also collects something of each step

        chunk = self.agent.embedded(rows).transpose(0, 1), rows.valid.transpose(0, 1)
        after: Tensor = self.scan(step, belief, chunk)[0]
        return after

    def read(self, belief: Tensor) -> Latent:
        """What the policy is given of the hidden state."""
        latent: Latent = self.agent.readout(belief)
        return latent


def memory_modules(agent: MemoryAgent, bounds: nn.Module) -> dict[str, nn.Module]:
    """What becomes the three graphs; `bounds` has the last word on actions."""
    return {
        EXPLORATION_POLICY: MemoryExplorationGraph(agent, bounds),
        CONTEXT_ENCODER: MemoryEncoderGraph(agent),
        EXECUTION_POLICY: MemoryExecutionGraph(agent, bounds),
    }
