from ccm_runtime.v1 import adaptation_pb2 as _adaptation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionRecord(_message.Message):
    __slots__ = ("session_id", "idempotency_key", "tenant", "bundle_digest", "saved_at", "memory", "last_answer", "misses", "mended", "safe_reason", "client")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SAVED_AT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    LAST_ANSWER_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    MENDED_FIELD_NUMBER: _ClassVar[int]
    SAFE_REASON_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    idempotency_key: str
    tenant: str
    bundle_digest: str
    saved_at: Moment
    memory: TrialMemory
    last_answer: _adaptation_pb2.Answer
    misses: int
    mended: int
    safe_reason: _adaptation_pb2.SafeReason
    client: str
    def __init__(self, session_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., tenant: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., saved_at: _Optional[_Union[Moment, _Mapping]] = ..., memory: _Optional[_Union[TrialMemory, _Mapping]] = ..., last_answer: _Optional[_Union[_adaptation_pb2.Answer, _Mapping]] = ..., misses: _Optional[int] = ..., mended: _Optional[int] = ..., safe_reason: _Optional[_Union[_adaptation_pb2.SafeReason, str]] = ..., client: _Optional[str] = ...) -> None: ...

class Moment(_message.Message):
    __slots__ = ("wall_s", "boot_id", "since_boot_s")
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_BOOT_S_FIELD_NUMBER: _ClassVar[int]
    wall_s: float
    boot_id: str
    since_boot_s: float
    def __init__(self, wall_s: _Optional[float] = ..., boot_id: _Optional[str] = ..., since_boot_s: _Optional[float] = ...) -> None: ...

class TrialMemory(_message.Message):
    __slots__ = ("explore_episodes", "horizon", "episodes_finished", "steps_in_episode", "in_episode", "closed", "belief", "latent_mean", "latent_std", "latent", "observation", "command", "last_safe", "seed", "stochastic", "num_events", "returns", "return_so_far", "owed", "re_explore")
    EXPLORE_EPISODES_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    EPISODES_FINISHED_FIELD_NUMBER: _ClassVar[int]
    STEPS_IN_EPISODE_FIELD_NUMBER: _ClassVar[int]
    IN_EPISODE_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    BELIEF_FIELD_NUMBER: _ClassVar[int]
    LATENT_MEAN_FIELD_NUMBER: _ClassVar[int]
    LATENT_STD_FIELD_NUMBER: _ClassVar[int]
    LATENT_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    LAST_SAFE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOCHASTIC_FIELD_NUMBER: _ClassVar[int]
    NUM_EVENTS_FIELD_NUMBER: _ClassVar[int]
    RETURNS_FIELD_NUMBER: _ClassVar[int]
    RETURN_SO_FAR_FIELD_NUMBER: _ClassVar[int]
    OWED_FIELD_NUMBER: _ClassVar[int]
    RE_EXPLORE_FIELD_NUMBER: _ClassVar[int]
    explore_episodes: int
    horizon: int
    episodes_finished: int
    steps_in_episode: int
    in_episode: bool
    closed: bool
    belief: bytes
    latent_mean: bytes
    latent_std: bytes
    latent: bytes
    observation: bytes
    command: bytes
    last_safe: bytes
    seed: int
    stochastic: bool
    num_events: int
    returns: _containers.RepeatedScalarFieldContainer[float]
    return_so_far: float
    owed: _containers.RepeatedCompositeFieldContainer[_adaptation_pb2.EncodedTransition]
    re_explore: int
    def __init__(self, explore_episodes: _Optional[int] = ..., horizon: _Optional[int] = ..., episodes_finished: _Optional[int] = ..., steps_in_episode: _Optional[int] = ..., in_episode: bool = ..., closed: bool = ..., belief: _Optional[bytes] = ..., latent_mean: _Optional[bytes] = ..., latent_std: _Optional[bytes] = ..., latent: _Optional[bytes] = ..., observation: _Optional[bytes] = ..., command: _Optional[bytes] = ..., last_safe: _Optional[bytes] = ..., seed: _Optional[int] = ..., stochastic: bool = ..., num_events: _Optional[int] = ..., returns: _Optional[_Iterable[float]] = ..., return_so_far: _Optional[float] = ..., owed: _Optional[_Iterable[_Union[_adaptation_pb2.EncodedTransition, _Mapping]]] = ..., re_explore: _Optional[int] = ...) -> None: ...
