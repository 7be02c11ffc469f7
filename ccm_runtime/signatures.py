"""Names and shapes of every graph's tensors, as the manifest's sizes determine them: one for writer and reader."""

from dataclasses import dataclass
from typing import Literal

from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY, Manifest

Size = int | Literal["n", "t"]
Shape = tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a graph takes and answers, in order. All float32; `n` (batch) and `t` (transitions) are dynamic."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def signatures(manifest: Manifest) -> dict[str, Signature]:
    """Return the signature of each graph."""
    obs, act = manifest.input_size, manifest.action.size
    belief, latent = manifest.belief.size, manifest.belief.latent_size
    action: dict[str, Shape] = {"action": ("n", act)}
    return {
        EXPLORATION_POLICY: Signature(
            {"observation": ("n", obs), "belief": ("n", belief), "noise": ("n", act)}, action
        ),
        CONTEXT_ENCODER: Signature(
            {
                "belief": ("n", belief),
                "observation": ("n", "t", obs),
                "action": ("n", "t", act),
                "reward": ("n", "t", 1),
                "next_observation": ("n", "t", obs),
                "valid": ("n", "t", 1),
            },
            {"next_belief": ("n", belief), "latent_mean": ("n", latent), "latent_std": ("n", latent)},
        ),
        EXECUTION_POLICY: Signature({"observation": ("n", obs), "latent": ("n", latent), "noise": ("n", act)}, action),
    }


def sized(shape: Shape, *, n: int, t: int) -> tuple[int, ...]:
    """Return `shape` with its dynamic sizes filled in."""
    return tuple({"n": n, "t": t}[size] if isinstance(size, str) else size for size in shape)


def fits(found: list[int | str | None], wanted: Shape) -> bool:
    """Return whether a graph that declares `found` can be one of shape `wanted`: rank, dynamic and fixed sizes.

    A fixed size that the graph leaves open is settled by running it.
    """
    return len(found) == len(wanted) and all(
        not isinstance(have, int) or have == want for have, want in zip(found, wanted, strict=True)
    )
