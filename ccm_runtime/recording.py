"""What a server wrote down of a session, as bytes: events and answers, each checked; see recording.proto."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from ccm_runtime import __version__
from ccm_runtime.errors import RecordCorruptError
from ccm_runtime.files import read_file
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Answer, BeginEpisode, Event, Intervention, Reaction, Transition
from ccm_runtime.records import memory_from_proto, memory_to_proto, pack, unpack
from ccm_runtime.session import Session
from ccm_runtime.trial import Phase
from ccm_runtime.v1 import recording_pb2 as pb

MAGIC = b"CCMR1\n"
SUFFIX = ".ccmrec"
_FRAME = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Recording:
    """A part of a session, without a gap.

    Attributes:
        session_id: Whose it is.
        bundle_digest: Of the bundle that answered.
        agent_id: The agent in it.
        safety: Limits that its actions were kept in; `None`: they are not known.
        memory: The trial before the first event.
        first_sequence: Number of the first event.
        steps: Events and their answers.
        damage: Why there may have been more; empty: the recording is whole.
        fell_back: Numbers of the events that were taken without the networks, each with how many transitions the trial
            owed its belief before it; older servers did not write this down.
    """

    session_id: str
    bundle_digest: str
    agent_id: str
    safety: SafetyLimits | None
    memory: Memory
    first_sequence: int
    steps: tuple[tuple[Event, Answer], ...]
    damage: str = ""
    fell_back: Mapping[int, int] = field(default_factory=dict)


def head(session: Session, agent_id: str, safety: SafetyLimits | None, wall_s: float) -> bytes:
    """Return how a recording begins: with the session before its first event."""
    header = pb.RecordingHeader(
        session_id=session.session_id,
        bundle_digest=session.bundle_digest,
        agent_id=agent_id,
        server_version=__version__,
        began_at_s=wall_s,
        memory=memory_to_proto(session.memory),
        first_sequence=session.next_sequence,
    )
    if safety is not None:
        header.max_rate.extend(safety.max_rate or ())
        header.fallback = safety.fallback
    return MAGIC + _framed(header.SerializeToString())


def line(event: Event, answer: Answer, num_owed: int | None = None) -> bytes:
    """Return one event with its answer.

    Args:
        event: What the session was told.
        answer: What it was answered.
        num_owed: Transitions that its trial owed before an event that was taken without the networks; `None`: they ran.
    """
    reaction = answer.reaction
    recorded = pb.RecordedEvent(
        sequence=answer.sequence,
        observation=pack(event.observation),
        action=b"" if reaction.action is None else pack(reaction.action),
        phase=reaction.phase.value,
        episode=reaction.episode,
        step=reaction.step,
        certainty=reaction.certainty,
        novelty=reaction.novelty,
        total_ms=answer.total_ms,
        infer_ms=answer.infer_ms,
        num_owed=num_owed,
    )
    if isinstance(event, Transition):
        recorded.reward = event.reward
        recorded.terminated, recorded.truncated = event.terminated, event.truncated
        if event.applied_action is not None:
            recorded.applied_action = pack(event.applied_action)
    else:
        recorded.leave_safe, recorded.abandon = event.leave_safe, event.abandon
    if reaction.interventions:
        recorded.interventions.extend(kind.value for kind in reaction.interventions)
    recorded.task_changed = reaction.task_changed
    return _framed(recorded.SerializeToString())


def read_recording(path: Path) -> Recording:
    """Return a recording, as far as it is whole.

    Raises:
        ConfigError: The file cannot be read.
        RecordCorruptError: It is no recording, or its very beginning is damaged.
    """
    data = read_file(path)
    if data[: len(MAGIC)] != MAGIC:
        raise RecordCorruptError(
            f"{path} begins with {data[:6]!r}, expected {MAGIC!r}: it is no recording of ccm serve"
        )
    frames, damage = _frames(data)
    try:
        header = pb.RecordingHeader.FromString(frames[0])
        memory, safety = memory_from_proto(header.memory), _safety(header)
    except (IndexError, DecodeError, ValueError):
        raise RecordCorruptError(f"{path} is damaged at its beginning: nothing of the session can be read") from None
    steps: list[tuple[Event, Answer]] = []
    fell_back: dict[int, int] = {}
    for frame in frames[1:]:
        try:
            recorded = pb.RecordedEvent.FromString(frame)
            event, answer = _step(recorded)
        except (DecodeError, ValueError) as error:
            damage = f"event {header.first_sequence + len(steps)} cannot be read ({error})"
            break
        if answer.sequence != header.first_sequence + len(steps):
            damage = f"event {header.first_sequence + len(steps)} is missing"
            break
        steps.append((event, answer))
        if recorded.HasField("num_owed"):
            fell_back[answer.sequence] = recorded.num_owed
    return Recording(
        header.session_id,
        header.bundle_digest,
        header.agent_id,
        safety,
        memory,
        header.first_sequence,
        tuple(steps),
        damage,
        fell_back,
    )


def _safety(header: pb.RecordingHeader) -> SafetyLimits | None:
    if not header.fallback:
        return None
    return SafetyLimits.model_validate({"max_rate": tuple(header.max_rate) or None, "fallback": header.fallback})


def _step(recorded: pb.RecordedEvent) -> tuple[Event, Answer]:
    observation = unpack(recorded.observation)
    if recorded.HasField("reward"):
        applied = unpack(recorded.applied_action) if recorded.applied_action else None
        event: Event = Transition(observation, recorded.reward, recorded.terminated, recorded.truncated, applied)
    else:
        event = BeginEpisode(observation, recorded.leave_safe, recorded.abandon)
    reaction = Reaction(
        action=unpack(recorded.action) if recorded.action else None,
        phase=Phase(recorded.phase),
        episode=recorded.episode,
        step=recorded.step,
        episode_over=not recorded.action,
        certainty=recorded.certainty,
        novelty=recorded.novelty,
        interventions=tuple(Intervention(kind) for kind in recorded.interventions),
        task_changed=recorded.task_changed,
    )
    return event, Answer(recorded.sequence, reaction, total_ms=recorded.total_ms, infer_ms=recorded.infer_ms)


def _framed(message: bytes) -> bytes:
    return _FRAME.pack(len(message), zlib.crc32(message)) + message


def _frames(data: bytes) -> tuple[list[bytes], str]:
    """Return the messages up to the first that is not whole, and what is wrong with that one."""
    frames: list[bytes] = []
    at = len(MAGIC)
    while at < len(data):
        if at + _FRAME.size > len(data):
            return frames, f"the last {len(data) - at} bytes are cut short"
        length, checksum = _FRAME.unpack_from(data, at)
        message = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(message) < length:
            return frames, f"the last {len(data) - at} bytes are cut short"
        if zlib.crc32(message) != checksum:
            return frames, f"{len(data) - at} bytes from byte {at} on are damaged"
        frames.append(message)
        at += _FRAME.size + length
    return frames, ""
