"""The manifest of a bundle: the contract between training and serving, as a schema.

The writer (`ccm_export.bundle_writer`) fills this very class, so that it cannot drift from the side that reads it.
"""

import hashlib
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from ccm_runtime.belief import ExperienceStats, NoveltyStats
from ccm_runtime.belief_map import BeliefMap
from ccm_runtime.errors import BundleCorruptError, BundleSchemaError
from ccm_runtime.specs import BoxSpec, counted
from ccm_runtime.wording import told

SCHEMA_VERSION: Final = 1
EXPLORATION_POLICY = "exploration_policy.onnx"
CONTEXT_ENCODER = "context_encoder.onnx"
EXECUTION_POLICY = "execution_policy.onnx"
GRAPHS = (EXPLORATION_POLICY, CONTEXT_ENCODER, EXECUTION_POLICY)
MODEL_CARD = "MODEL_CARD.md"
Fallback = Literal["hold", "zero", "last-safe"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileDigest(_Strict):
    """Size and SHA-256 of one file of the bundle."""

    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class BeliefSpec(_Strict):
    """Shape and start of a belief.

    Attributes:
        kind: Which encoder made it, `gaussian-product` or `gru`.
        additive: Whether two beliefs may be merged by addition.
        size: Length of the belief vector.
        latent_size: Length of the latent that the executor is given.
        initial: The belief before any transition, `[size]`.
    """

    kind: str
    additive: bool
    size: int = Field(ge=1)
    latent_size: int = Field(ge=1)
    initial: tuple[FiniteFloat, ...]


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
        explore_with: Whether exploring is the exploration policy on the belief, or the execution policy on a latent
            that is sampled when an episode begins and held (posterior sampling, as PEARL explores).
        observe_reward: Whether the policies see the previous step's reward appended to the observation (0 when an
            episode begins): the graphs' observations are then one entry longer than the environment's.
    """

    explore_episodes: int = Field(ge=0)
    episodes: int = Field(ge=1)
    horizon: int = Field(ge=1)
    while_executing: bool = True
    certain_at: float | None = Field(default=None, ge=0, le=1)
    latent: Literal["mean", "sample"] = "mean"
    explore_with: Literal["belief", "latent"] = "belief"
    observe_reward: bool = False


class SafetyLimits(_Strict):
    """The guard's limits, beyond the bounds of the action spec.

    Attributes:
        max_rate: Largest change of each action entry from one step to the next, in its unit; `None`: unlimited.
        fallback: The action when none can be had in time: the last one, zeros, or the last one that passed the guard.
    """

    max_rate: tuple[FiniteFloat, ...] | None = None
    fallback: Fallback = "zero"

    def __str__(self) -> str:
        """One line, for people."""
        if self.max_rate is None:
            return f"no limit of an action's change from step to step; fallback {self.fallback}"
        rates = ", ".join(map(str, self.max_rate))
        return f"from step to step an action changes by at most {rates}; fallback {self.fallback}"


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


class RecordedTensor(_Strict):
    """A float32 tensor as it was recorded, row by row."""

    shape: tuple[int, ...]
    values: tuple[FiniteFloat, ...]


class GoldenSample(_Strict):
    """A few inputs of one graph and what it answered where it was exported, by the tensors' names."""

    inputs: dict[str, RecordedTensor]
    outputs: dict[str, RecordedTensor]


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
        scores: Evaluation on held-out tasks when it was trained, if there was one (`returns`, `adaptation_score`,
            ...); without those of single tasks.
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
    """Everything a reader needs to know before it opens a graph.

    Graphs and their tensors (float32, dynamic batch n):

    * `exploration_policy.onnx`: observation `[n, obs]`, belief `[n, belief]`, noise `[n, act]` -> action `[n, act]`
    * `context_encoder.onnx`: belief `[n, belief]`, observation `[n, t, obs]`, action `[n, t, act]`, reward `[n, t, 1]`,
      next_observation `[n, t, obs]`, valid `[n, t, 1]` -> next_belief `[n, belief]`, latent_mean `[n, latent]`,
      latent_std `[n, latent]`
    * `execution_policy.onnx`: observation `[n, obs]`, latent `[n, latent]`, noise `[n, act]` -> action `[n, act]`

    Here obs is `input_size`. Actions are in environment units; standard-normal noise samples the policy, zero noise is
    the deterministic action. `golden`, by graph, lets another machine see that it computes the same. `to_bytes` fills
    `manifest_sha256` in.
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
    experience: ExperienceStats | None = None
    belief_map: BeliefMap | None = None
    provenance: Provenance
    parity: ParityReport
    golden: dict[str, GoldenSample] = Field(default_factory=dict)
    files: dict[str, FileDigest]
    manifest_sha256: str = ""

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        belief, safety, novelty = self.belief, self.safety, self.novelty
        if len(belief.initial) != belief.size:
            raise ValueError(f"belief.initial has {_entries(belief.initial)}, belief.size is {belief.size}")
        if safety.max_rate is not None and len(safety.max_rate) != self.action.size:
            raise ValueError(f"safety.max_rate has {_entries(safety.max_rate)}, an action has {self.action.size}")
        if safety.max_rate is not None and min(safety.max_rate) <= 0:
            raise ValueError(f"safety.max_rate must be positive, got {min(safety.max_rate)}")
        if novelty is not None:
            sizes = {len(novelty.mean), len(novelty.precision), *map(len, novelty.precision)}
            if sizes != {belief.latent_size}:
                raise ValueError(f"novelty has sizes {sorted(sizes)}, belief.latent_size is {belief.latent_size}")
        if self.belief_map is not None and len(self.belief_map.centre) != belief.latent_size:
            raise ValueError(f"belief_map has size {len(self.belief_map.centre)}, a latent has {belief.latent_size}")
        if self.experience is not None:
            seen = self.experience
            sizes = {len(seen.mean), len(seen.scale), len(seen.precision), *map(len, seen.precision)}
            wanted = 2 * self.observation.size + self.action.size + 1
            if sizes != {wanted}:
                raise ValueError(f"experience has sizes {sorted(sizes)}, a transition has {wanted} entries")
        return self

    @property
    def input_size(self) -> int:
        """Length of the graphs' observations: the environment's, and the previous reward where it is observed."""
        return self.observation.size + int(self.adaptation.observe_reward)


def _entries(numbers: tuple[float, ...]) -> str:
    return counted(len(numbers), "entry", "entries")


def to_bytes(manifest: Manifest) -> bytes:
    """Return the text of `manifest.json`, sealed: `manifest_sha256` is the digest of the text with that entry empty.

    This is the only way to write a manifest; `from_bytes` refuses every other text.
    """
    unsealed = manifest.model_copy(update={"manifest_sha256": ""}).model_dump_json(indent=2).encode() + b"\n"
    head, entry, tail = unsealed.rpartition(b'"manifest_sha256": "')
    return head + entry + hashlib.sha256(unsealed).hexdigest().encode() + tail


def from_bytes(text: bytes) -> Manifest:
    """Return the manifest that `to_bytes` wrote.

    Raises:
        BundleSchemaError: The text does not follow the schema.
        BundleCorruptError: Any byte of it is not as it was written.
    """
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleSchemaError(f"manifest.json does not follow schema {SCHEMA_VERSION}: {told(error)}") from None
    seal = manifest.manifest_sha256
    head, _, tail = text.rpartition(seal.encode())
    if not seal or hashlib.sha256(head + tail).hexdigest() != seal:
        raise BundleCorruptError("manifest.json is not as it was written (manifest_sha256 disagrees); export it again")
    return manifest
