from ccm_runtime.v1 import session_record_pb2 as _session_record_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordingHeader(_message.Message):
    __slots__ = ("session_id", "bundle_digest", "agent_id", "server_version", "began_at_s", "memory", "first_sequence", "max_rate", "fallback")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MAX_RATE_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    bundle_digest: str
    agent_id: str
    server_version: str
    began_at_s: float
    memory: _session_record_pb2.TrialMemory
    first_sequence: int
    max_rate: _containers.RepeatedScalarFieldContainer[float]
    fallback: str
    def __init__(self, session_id: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., agent_id: _Optional[str] = ..., server_version: _Optional[str] = ..., began_at_s: _Optional[float] = ..., memory: _Optional[_Union[_session_record_pb2.TrialMemory, _Mapping]] = ..., first_sequence: _Optional[int] = ..., max_rate: _Optional[_Iterable[float]] = ..., fallback: _Optional[str] = ...) -> None: ...

class RecordedEvent(_message.Message):
    __slots__ = ("sequence", "observation", "reward", "terminated", "truncated", "applied_action", "leave_safe", "action", "phase", "episode", "step", "certainty", "novelty", "interventions", "task_changed", "total_ms", "infer_ms", "abandon", "num_owed")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    TERMINATED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    APPLIED_ACTION_FIELD_NUMBER: _ClassVar[int]
    LEAVE_SAFE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    EPISODE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    NOVELTY_FIELD_NUMBER: _ClassVar[int]
    INTERVENTIONS_FIELD_NUMBER: _ClassVar[int]
    TASK_CHANGED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    ABANDON_FIELD_NUMBER: _ClassVar[int]
    NUM_OWED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    observation: bytes
    reward: float
    terminated: bool
    truncated: bool
    applied_action: bytes
    leave_safe: bool
    action: bytes
    phase: str
    episode: int
    step: int
    certainty: float
    novelty: float
    interventions: _containers.RepeatedScalarFieldContainer[str]
    task_changed: bool
    total_ms: float
    infer_ms: float
    abandon: bool
    num_owed: int
    def __init__(self, sequence: _Optional[int] = ..., observation: _Optional[bytes] = ..., reward: _Optional[float] = ..., terminated: bool = ..., truncated: bool = ..., applied_action: _Optional[bytes] = ..., leave_safe: bool = ..., action: _Optional[bytes] = ..., phase: _Optional[str] = ..., episode: _Optional[int] = ..., step: _Optional[int] = ..., certainty: _Optional[float] = ..., novelty: _Optional[float] = ..., interventions: _Optional[_Iterable[str]] = ..., task_changed: bool = ..., total_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ..., abandon: bool = ..., num_owed: _Optional[int] = ...) -> None: ...
