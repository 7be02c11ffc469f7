from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_CURRENT: _ClassVar[Role]
    ROLE_CANDIDATE: _ClassVar[Role]
    ROLE_PREVIOUS: _ClassVar[Role]
    ROLE_LEAVING: _ClassVar[Role]
ROLE_UNSPECIFIED: Role
ROLE_CURRENT: Role
ROLE_CANDIDATE: Role
ROLE_PREVIOUS: Role
ROLE_LEAVING: Role

class ListAgentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAgentsResponse(_message.Message):
    __slots__ = ("agents",)
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[Rollout]
    def __init__(self, agents: _Optional[_Iterable[_Union[Rollout, _Mapping]]] = ...) -> None: ...

class LoadVersionRequest(_message.Message):
    __slots__ = ("agent", "version", "share", "move")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    version: str
    share: float
    move: bool
    def __init__(self, agent: _Optional[str] = ..., version: _Optional[str] = ..., share: _Optional[float] = ..., move: bool = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("agent", "move")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    move: bool
    def __init__(self, agent: _Optional[str] = ..., move: bool = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("agent", "move")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    move: bool
    def __init__(self, agent: _Optional[str] = ..., move: bool = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("agent", "share", "versions")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    share: float
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, agent: _Optional[str] = ..., share: _Optional[float] = ..., versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("version", "bundle_digest", "role", "sessions", "opened", "episodes", "mean_return", "interventions", "misses", "failures")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    EPISODES_FIELD_NUMBER: _ClassVar[int]
    MEAN_RETURN_FIELD_NUMBER: _ClassVar[int]
    INTERVENTIONS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    version: str
    bundle_digest: str
    role: Role
    sessions: int
    opened: int
    episodes: int
    mean_return: float
    interventions: int
    misses: int
    failures: int
    def __init__(self, version: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., sessions: _Optional[int] = ..., opened: _Optional[int] = ..., episodes: _Optional[int] = ..., mean_return: _Optional[float] = ..., interventions: _Optional[int] = ..., misses: _Optional[int] = ..., failures: _Optional[int] = ...) -> None: ...
