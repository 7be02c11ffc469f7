from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_EXPLORE: _ClassVar[Phase]
    PHASE_EXECUTE: _ClassVar[Phase]
    PHASE_CLOSED: _ClassVar[Phase]

class SafeReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAFE_REASON_UNSPECIFIED: _ClassVar[SafeReason]
    SAFE_REASON_MISSES: _ClassVar[SafeReason]
    SAFE_REASON_INTERVENTIONS: _ClassVar[SafeReason]

class GuardIntervention(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUARD_INTERVENTION_UNSPECIFIED: _ClassVar[GuardIntervention]
    GUARD_INTERVENTION_BOUND: _ClassVar[GuardIntervention]
    GUARD_INTERVENTION_RATE: _ClassVar[GuardIntervention]
    GUARD_INTERVENTION_NOT_FINITE: _ClassVar[GuardIntervention]
    GUARD_INTERVENTION_LATE: _ClassVar[GuardIntervention]
    GUARD_INTERVENTION_SAFE: _ClassVar[GuardIntervention]
PHASE_UNSPECIFIED: Phase
PHASE_EXPLORE: Phase
PHASE_EXECUTE: Phase
PHASE_CLOSED: Phase
SAFE_REASON_UNSPECIFIED: SafeReason
SAFE_REASON_MISSES: SafeReason
SAFE_REASON_INTERVENTIONS: SafeReason
GUARD_INTERVENTION_UNSPECIFIED: GuardIntervention
GUARD_INTERVENTION_BOUND: GuardIntervention
GUARD_INTERVENTION_RATE: GuardIntervention
GUARD_INTERVENTION_NOT_FINITE: GuardIntervention
GUARD_INTERVENTION_LATE: GuardIntervention
GUARD_INTERVENTION_SAFE: GuardIntervention

class BoxSpec(_message.Message):
    __slots__ = ("name", "labels", "units", "low", "high")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    units: _containers.RepeatedScalarFieldContainer[str]
    low: _containers.RepeatedScalarFieldContainer[float]
    high: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., units: _Optional[_Iterable[str]] = ..., low: _Optional[_Iterable[float]] = ..., high: _Optional[_Iterable[float]] = ...) -> None: ...

class DescribeAgentRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    def __init__(self, agent: _Optional[str] = ...) -> None: ...

class DescribeAgentResponse(_message.Message):
    __slots__ = ("agent", "agents")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    agents: _containers.RepeatedCompositeFieldContainer[Agent]
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ..., agents: _Optional[_Iterable[_Union[Agent, _Mapping]]] = ...) -> None: ...

class Agent(_message.Message):
    __slots__ = ("agent_id", "family", "bundle_digest", "observation", "action", "explore_episodes", "episodes", "horizon", "belief_size", "latent_size", "server_version", "method", "name")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    EXPLORE_EPISODES_FIELD_NUMBER: _ClassVar[int]
    EPISODES_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    BELIEF_SIZE_FIELD_NUMBER: _ClassVar[int]
    LATENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    family: str
    bundle_digest: str
    observation: BoxSpec
    action: BoxSpec
    explore_episodes: int
    episodes: int
    horizon: int
    belief_size: int
    latent_size: int
    server_version: str
    method: str
    name: str
    def __init__(self, agent_id: _Optional[str] = ..., family: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., observation: _Optional[_Union[BoxSpec, _Mapping]] = ..., action: _Optional[_Union[BoxSpec, _Mapping]] = ..., explore_episodes: _Optional[int] = ..., episodes: _Optional[int] = ..., horizon: _Optional[int] = ..., belief_size: _Optional[int] = ..., latent_size: _Optional[int] = ..., server_version: _Optional[str] = ..., method: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("seed", "stochastic", "expected_family", "expected_observation_size", "expected_action_size", "expected_bundle_digest", "context", "explore_episodes", "idempotency_key", "re_explore", "agent")
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOCHASTIC_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FAMILY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_OBSERVATION_SIZE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ACTION_SIZE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    EXPLORE_EPISODES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    RE_EXPLORE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    seed: int
    stochastic: bool
    expected_family: str
    expected_observation_size: int
    expected_action_size: int
    expected_bundle_digest: str
    context: Context
    explore_episodes: int
    idempotency_key: str
    re_explore: bool
    agent: str
    def __init__(self, seed: _Optional[int] = ..., stochastic: bool = ..., expected_family: _Optional[str] = ..., expected_observation_size: _Optional[int] = ..., expected_action_size: _Optional[int] = ..., expected_bundle_digest: _Optional[str] = ..., context: _Optional[_Union[Context, _Mapping]] = ..., explore_episodes: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., re_explore: bool = ..., agent: _Optional[str] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session_id", "token", "agent", "next_sequence", "idle_limit_ms", "standing")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    IDLE_LIMIT_MS_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    token: str
    agent: Agent
    next_sequence: int
    idle_limit_ms: int
    standing: Standing
    def __init__(self, session_id: _Optional[str] = ..., token: _Optional[str] = ..., agent: _Optional[_Union[Agent, _Mapping]] = ..., next_sequence: _Optional[int] = ..., idle_limit_ms: _Optional[int] = ..., standing: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("last_answer", "returns", "return_so_far", "phase")
    LAST_ANSWER_FIELD_NUMBER: _ClassVar[int]
    RETURNS_FIELD_NUMBER: _ClassVar[int]
    RETURN_SO_FAR_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    last_answer: Answer
    returns: _containers.RepeatedScalarFieldContainer[float]
    return_so_far: float
    phase: Phase
    def __init__(self, last_answer: _Optional[_Union[Answer, _Mapping]] = ..., returns: _Optional[_Iterable[float]] = ..., return_so_far: _Optional[float] = ..., phase: _Optional[_Union[Phase, str]] = ...) -> None: ...

class BeginEpisode(_message.Message):
    __slots__ = ("observation", "leave_safe", "abandon")
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    LEAVE_SAFE_FIELD_NUMBER: _ClassVar[int]
    ABANDON_FIELD_NUMBER: _ClassVar[int]
    observation: _containers.RepeatedScalarFieldContainer[float]
    leave_safe: bool
    abandon: bool
    def __init__(self, observation: _Optional[_Iterable[float]] = ..., leave_safe: bool = ..., abandon: bool = ...) -> None: ...

class Transition(_message.Message):
    __slots__ = ("observation", "reward", "terminated", "truncated", "applied_action")
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    TERMINATED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    APPLIED_ACTION_FIELD_NUMBER: _ClassVar[int]
    observation: _containers.RepeatedScalarFieldContainer[float]
    reward: float
    terminated: bool
    truncated: bool
    applied_action: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, observation: _Optional[_Iterable[float]] = ..., reward: _Optional[float] = ..., terminated: bool = ..., truncated: bool = ..., applied_action: _Optional[_Iterable[float]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("sequence", "begin_episode", "transition")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_EPISODE_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    begin_episode: BeginEpisode
    transition: Transition
    def __init__(self, sequence: _Optional[int] = ..., begin_episode: _Optional[_Union[BeginEpisode, _Mapping]] = ..., transition: _Optional[_Union[Transition, _Mapping]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("sequence", "action", "phase", "episode", "step", "episode_over", "certainty", "novelty", "valid_for_ms", "durable_sequence", "interventions", "timing", "draining", "safe_reason", "task_changed", "version_changed")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    EPISODE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EPISODE_OVER_FIELD_NUMBER: _ClassVar[int]
    CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    NOVELTY_FIELD_NUMBER: _ClassVar[int]
    VALID_FOR_MS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INTERVENTIONS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SAFE_REASON_FIELD_NUMBER: _ClassVar[int]
    TASK_CHANGED_FIELD_NUMBER: _ClassVar[int]
    VERSION_CHANGED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    action: _containers.RepeatedScalarFieldContainer[float]
    phase: Phase
    episode: int
    step: int
    episode_over: bool
    certainty: float
    novelty: float
    valid_for_ms: int
    durable_sequence: int
    interventions: _containers.RepeatedScalarFieldContainer[GuardIntervention]
    timing: ServerTiming
    draining: bool
    safe_reason: SafeReason
    task_changed: bool
    version_changed: bool
    def __init__(self, sequence: _Optional[int] = ..., action: _Optional[_Iterable[float]] = ..., phase: _Optional[_Union[Phase, str]] = ..., episode: _Optional[int] = ..., step: _Optional[int] = ..., episode_over: bool = ..., certainty: _Optional[float] = ..., novelty: _Optional[float] = ..., valid_for_ms: _Optional[int] = ..., durable_sequence: _Optional[int] = ..., interventions: _Optional[_Iterable[_Union[GuardIntervention, str]]] = ..., timing: _Optional[_Union[ServerTiming, _Mapping]] = ..., draining: bool = ..., safe_reason: _Optional[_Union[SafeReason, str]] = ..., task_changed: bool = ..., version_changed: bool = ...) -> None: ...

class ServerTiming(_message.Message):
    __slots__ = ("total_ms", "infer_ms")
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    total_ms: float
    infer_ms: float
    def __init__(self, total_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ...) -> None: ...

class StepRequest(_message.Message):
    __slots__ = ("session_id", "token", "event", "client")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    token: str
    event: Event
    client: str
    def __init__(self, session_id: _Optional[str] = ..., token: _Optional[str] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., client: _Optional[str] = ...) -> None: ...

class StepResponse(_message.Message):
    __slots__ = ("answer",)
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: Answer
    def __init__(self, answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id", "token", "client")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    token: str
    client: str
    def __init__(self, session_id: _Optional[str] = ..., token: _Optional[str] = ..., client: _Optional[str] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ("returns", "context")
    RETURNS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    returns: _containers.RepeatedScalarFieldContainer[float]
    context: Context
    def __init__(self, returns: _Optional[_Iterable[float]] = ..., context: _Optional[_Union[Context, _Mapping]] = ...) -> None: ...

class ResumeSession(_message.Message):
    __slots__ = ("session_id", "token", "client", "take_over")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    TAKE_OVER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    token: str
    client: str
    take_over: bool
    def __init__(self, session_id: _Optional[str] = ..., token: _Optional[str] = ..., client: _Optional[str] = ..., take_over: bool = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("open", "resume", "event", "close")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    open: OpenSessionRequest
    resume: ResumeSession
    event: Event
    close: CloseSessionRequest
    def __init__(self, open: _Optional[_Union[OpenSessionRequest, _Mapping]] = ..., resume: _Optional[_Union[ResumeSession, _Mapping]] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., close: _Optional[_Union[CloseSessionRequest, _Mapping]] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("opened", "answer", "closed", "error")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    opened: OpenSessionResponse
    answer: Answer
    closed: CloseSessionResponse
    error: EventError
    def __init__(self, opened: _Optional[_Union[OpenSessionResponse, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., closed: _Optional[_Union[CloseSessionResponse, _Mapping]] = ..., error: _Optional[_Union[EventError, _Mapping]] = ...) -> None: ...

class EventError(_message.Message):
    __slots__ = ("sequence", "code", "message", "expected_sequence", "reason")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    code: int
    message: str
    expected_sequence: int
    reason: str
    def __init__(self, sequence: _Optional[int] = ..., code: _Optional[int] = ..., message: _Optional[str] = ..., expected_sequence: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Context(_message.Message):
    __slots__ = ("bundle_digest", "belief")
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BELIEF_FIELD_NUMBER: _ClassVar[int]
    bundle_digest: str
    belief: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, bundle_digest: _Optional[str] = ..., belief: _Optional[_Iterable[float]] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("context", "transitions", "agent")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    context: Context
    transitions: _containers.RepeatedCompositeFieldContainer[EncodedTransition]
    agent: str
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., transitions: _Optional[_Iterable[_Union[EncodedTransition, _Mapping]]] = ..., agent: _Optional[str] = ...) -> None: ...

class EncodedTransition(_message.Message):
    __slots__ = ("observation", "action", "reward", "next_observation")
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    NEXT_OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    observation: _containers.RepeatedScalarFieldContainer[float]
    action: _containers.RepeatedScalarFieldContainer[float]
    reward: float
    next_observation: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, observation: _Optional[_Iterable[float]] = ..., action: _Optional[_Iterable[float]] = ..., reward: _Optional[float] = ..., next_observation: _Optional[_Iterable[float]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("context", "latent_mean", "latent_std", "certainty", "novelty")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LATENT_MEAN_FIELD_NUMBER: _ClassVar[int]
    LATENT_STD_FIELD_NUMBER: _ClassVar[int]
    CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    NOVELTY_FIELD_NUMBER: _ClassVar[int]
    context: Context
    latent_mean: _containers.RepeatedScalarFieldContainer[float]
    latent_std: _containers.RepeatedScalarFieldContainer[float]
    certainty: float
    novelty: float
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., latent_mean: _Optional[_Iterable[float]] = ..., latent_std: _Optional[_Iterable[float]] = ..., certainty: _Optional[float] = ..., novelty: _Optional[float] = ...) -> None: ...

class ActRequest(_message.Message):
    __slots__ = ("context", "observation", "phase", "noise", "agent", "previous_action")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_ACTION_FIELD_NUMBER: _ClassVar[int]
    context: Context
    observation: _containers.RepeatedScalarFieldContainer[float]
    phase: Phase
    noise: _containers.RepeatedScalarFieldContainer[float]
    agent: str
    previous_action: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., observation: _Optional[_Iterable[float]] = ..., phase: _Optional[_Union[Phase, str]] = ..., noise: _Optional[_Iterable[float]] = ..., agent: _Optional[str] = ..., previous_action: _Optional[_Iterable[float]] = ...) -> None: ...

class ActResponse(_message.Message):
    __slots__ = ("action", "certainty", "novelty", "interventions")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    NOVELTY_FIELD_NUMBER: _ClassVar[int]
    INTERVENTIONS_FIELD_NUMBER: _ClassVar[int]
    action: _containers.RepeatedScalarFieldContainer[float]
    certainty: float
    novelty: float
    interventions: _containers.RepeatedScalarFieldContainer[GuardIntervention]
    def __init__(self, action: _Optional[_Iterable[float]] = ..., certainty: _Optional[float] = ..., novelty: _Optional[float] = ..., interventions: _Optional[_Iterable[_Union[GuardIntervention, str]]] = ...) -> None: ...
