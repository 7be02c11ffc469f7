"""The manifest of a bundle: the contract between training and serving, as a schema.

The writer (`ccm_export.bundle_writer`) fills this very class, so that it cannot drift from the side that reads it.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ccm_runtime.belief import NoveltyStats
from ccm_runtime.specs import BoxSpec

SCHEMA_VERSION = 1
EXPLORATION_POLICY = "exploration_policy.onnx"
CONTEXT_ENCODER = "context_encoder.onnx"
EXECUTION_POLICY = "execution_policy.onnx"
GRAPHS = (EXPLORATION_POLICY, CONTEXT_ENCODER, EXECUTION_POLICY)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileDigest(_Strict):
    """Size and SHA-256 of one file of the bundle."""

    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class BeliefSpec(_Strict):
    """Shape and start of a belief.

    Attributes:
        kind: Which encoder made it, e.g. `gaussian-product`.
        additive: Whether two beliefs may be merged by addition.
        size: Length of the belief vector.
        latent_size: Length of the latent that the executor is given.
        initial: The belief before any transition, `[size]`.
    """

    kind: str
    additive: bool
    size: int = Field(ge=1)
    latent_size: int = Field(ge=1)
    initial: tuple[float, ...]


class Adaptation(_Strict):
    """How a trial runs.

    Attributes:
        explore_episodes: K, the episodes of the explorer.
        episodes: N, the episodes of a whole trial as it was evaluated.
        horizon: T, most transitions of an episode.
        while_executing: Whether the executor's latent follows the belief at every step; otherwise it is fixed when
            an execution episode begins.
        certain_at: Stop exploring at the end of an episode once the belief's certainty reaches this; `None`: never.
        latent: Whether the executor is given the posterior mean or a sample drawn when an episode begins.
    """

    explore_episodes: int = Field(ge=0)
    episodes: int = Field(ge=1)
    horizon: int = Field(ge=1)
    while_executing: bool = True
    certain_at: float | None = None
    latent: Literal["mean", "sample"] = "mean"


class SafetyLimits(_Strict):
    """The guard's limits, beyond the bounds of the action spec.

    Attributes:
        max_rate: Largest change of each action entry from one step to the next; `None`: unlimited.
        fallback: The action when none can be had in time: the last one, zeros, or the last one that passed the guard.
    """

    max_rate: tuple[float, ...] | None = None
    fallback: Literal["hold", "zero", "last-safe"] = "zero"


class ParityReport(_Strict):
    """How well onnxruntime agreed with torch at export.

    Attributes:
        tolerance: Largest difference that was allowed (absolute, and relative to the larger magnitude).
        max_abs_difference: Largest absolute difference, by graph.
        num_inputs: Rows that were compared, by kind (`random`, `recorded`, `extreme`).
    """

    tolerance: float
    max_abs_difference: dict[str, float]
    num_inputs: dict[str, int]


class Provenance(_Strict):
    """Where the agent comes from.

    Attributes:
        created_at: UTC, ISO 8601.
        method: `ccm`, `pearl`, ...
        seed: Seed of the run.
        env_steps: Environment steps of training.
        updates: Gradient updates of training.
        config_sha256: Digest of the resolved config.
        config: The resolved config itself.
        versions: Version of each package that mattered.
        scores: Evaluation on held-out tasks when it was trained, if there was one (`returns`, `adaptation_score`, ...).
    """

    created_at: str
    method: str
    seed: int
    env_steps: int
    updates: int
    config_sha256: str
    config: dict[str, object]
    versions: dict[str, str]
    scores: dict[str, object] | None = None


class Manifest(_Strict):
    """Everything a reader needs to know before it opens a graph. Graphs and their tensors (float32, dynamic batch n):

    * `exploration_policy.onnx`: observation `[n, obs]`, belief `[n, belief]`, noise `[n, act]` -> action `[n, act]`
    * `context_encoder.onnx`: belief `[n, belief]`, observation `[n, t, obs]`, action `[n, t, act]`, reward `[n, t, 1]`,
      next_observation `[n, t, obs]`, valid `[n, t, 1]` -> next_belief `[n, belief]`, latent_mean `[n, latent]`,
      latent_std `[n, latent]`
    * `execution_policy.onnx`: observation `[n, obs]`, latent `[n, latent]`, noise `[n, act]` -> action `[n, act]`

    Actions are in environment units; standard-normal noise samples the policy, zero noise is the deterministic action.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    agent_id: str = Field(min_length=1, max_length=128)
    family: str
    observation: BoxSpec
    action: BoxSpec
    belief: BeliefSpec
    adaptation: Adaptation
    safety: SafetyLimits = SafetyLimits()
    novelty: NoveltyStats | None = None
    provenance: Provenance
    parity: ParityReport
    files: dict[str, FileDigest]
