from ccm_runtime.v1 import adaptation_pb2 as _adaptation_pb2
from ccm_runtime.v1 import session_record_pb2 as _session_record_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordingHeader(_message.Message):
    __slots__ = ("session_id", "bundle_digest", "agent_id", "server_version", "began_at_s", "memory", "first_sequence")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    bundle_digest: str
    agent_id: str
    server_version: str
    began_at_s: float
    memory: _session_record_pb2.TrialMemory
    first_sequence: int
    def __init__(self, session_id: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., agent_id: _Optional[str] = ..., server_version: _Optional[str] = ..., began_at_s: _Optional[float] = ..., memory: _Optional[_Union[_session_record_pb2.TrialMemory, _Mapping]] = ..., first_sequence: _Optional[int] = ...) -> None: ...

class RecordedEvent(_message.Message):
    __slots__ = ("event", "answer")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    event: _adaptation_pb2.Event
    answer: _adaptation_pb2.Answer
    def __init__(self, event: _Optional[_Union[_adaptation_pb2.Event, _Mapping]] = ..., answer: _Optional[_Union[_adaptation_pb2.Answer, _Mapping]] = ...) -> None: ...
