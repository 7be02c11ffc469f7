"""The gate: no bundle leaves unless onnxruntime computes what torch computes."""

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ccm_export.probes import Kind, Probe, Tensors, answer, made_up
from ccm_runtime.belief import Array
from ccm_runtime.errors import ParityError
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY, ParityReport
from ccm_runtime.policy import Policy
from ccm_training.onpolicy.memory import MemoryPolicy
from ccm_training.policy import AgentPolicy
from ccm_training.replay import Rows
from ccm_training.rollout import BatchPolicy

TOLERANCE = 1e-5
# Sums in another order differ by a few times torch's own rounding; on inputs of ordinary size that is far below
# TOLERANCE, on extreme ones it is what single precision can give.
ROUNDING_FACTOR = 8.0
EXTREME_SCALES = (0.0, 10.0, 100.0)


def synthetic_probes(policy: Policy, rng: np.random.Generator) -> list[Probe]:
    """Random and extreme inputs: all zero, ten and a hundred times as far out as random ones."""
    return [
        made_up(policy, "random", scale=1.0, rng=rng),
        *(made_up(policy, "extreme", scale=scale, rng=rng) for scale in EXTREME_SCALES),
    ]


def measure_parity(reference: AgentPolicy | MemoryPolicy, exported: Policy, probes: Iterable[Probe]) -> ParityReport:
    """Compare the graphs with the very policy that training evaluated.

    A value may differ by `TOLERANCE`, absolute and relative to the larger magnitude, and by `ROUNDING_FACTOR` times
    what torch itself loses in single precision on that probe.

    Raises:
        ParityError: They disagree; the message says where and by how much.
    """
    precise = _in_double(reference)
    worst: dict[str, float] = {}
    counts: dict[str, int] = {}
    for probe in probes:
        wanted, exact = _torch_answer(reference, probe, torch.float32), _torch_answer(precise, probe, torch.float64)
        for graph, outputs in answer(exported, probe).items():
            for name, found in outputs.items():
                rounding = float(np.abs(wanted[graph][name] - exact[graph][name]).max())
                difference = _compare(f"{graph}: {name}", probe.kind, wanted[graph][name], found, rounding)
                worst[graph] = max(worst.get(graph, 0.0), difference)
        counts[probe.kind] = counts.get(probe.kind, 0) + len(probe.observation)
    return ParityReport(tolerance=TOLERANCE, max_abs_difference=worst, num_inputs=counts)


def _in_double(policy: AgentPolicy | MemoryPolicy) -> BatchPolicy:
    """The same policy in double precision."""
    if isinstance(policy, MemoryPolicy):
        return MemoryPolicy(copy.deepcopy(policy.agent).double(), policy.adaptation)
    return AgentPolicy(copy.deepcopy(policy.agent).double(), policy.adaptation)


def _compare(where: str, kind: Kind, wanted: Array, found: Array, rounding: float) -> float:
    """Return the largest absolute difference, if all are small enough."""
    difference = np.abs(wanted - found)
    allowed = TOLERANCE * (1.0 + np.maximum(np.abs(wanted), np.abs(found))) + ROUNDING_FACTOR * rounding
    if not bool(np.all(difference <= allowed)):
        at = np.unravel_index(np.argmax(np.where(np.isfinite(difference), difference - allowed, np.inf)), wanted.shape)
        raise ParityError(
            f"{where} differs on {kind} inputs: torch says {wanted[at]:.7g}, onnxruntime {found[at]:.7g} "
            f"(allowed difference {allowed[at]:.1e}); nothing was written"
        )
    return float(difference.max())


@torch.no_grad()
def _torch_answer(policy: BatchPolicy, probe: Probe, dtype: torch.dtype) -> dict[str, Tensors]:
    """What the agent answers; it folds one transition after the other, as a rollout does."""

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(array).to(dtype)

    observation, belief, noise = tensor(probe.observation), tensor(probe.belief), tensor(probe.noise)
    if policy.adaptation.explore_with == "belief":
        explored = policy.explore(observation, belief, noise)
    else:
        explored = policy.execute(observation, policy.read(belief).mean, noise)
    steps = probe.transitions
    fields = [tensor(f) for f in (steps.observation, steps.action, steps.reward, steps.next_observation, steps.valid)]
    for row in zip(*(field.unbind(1) for field in fields), strict=True):
        belief = policy.fold(belief, _rows(row))
    latent = policy.read(belief)
    return {
        EXPLORATION_POLICY: {"action": explored.numpy()},
        CONTEXT_ENCODER: {
            "next_belief": belief.numpy(),
            "latent_mean": latent.mean.numpy(),
            "latent_std": latent.std.numpy(),
        },
        EXECUTION_POLICY: {"action": policy.execute(observation, tensor(probe.latent), noise).numpy()},
    }


def _rows(fields: Sequence[Tensor]) -> Rows:
    observation, action, reward, next_observation, valid = fields
    return Rows(observation, action, reward, next_observation, torch.zeros_like(valid), valid)
