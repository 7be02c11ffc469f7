"""A session <-> the bytes that a store keeps: typed, versioned, checked, and the same session again bit for bit."""

import hashlib
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from ccm_runtime import wire
from ccm_runtime.belief import Array
from ccm_runtime.errors import RecordCorruptError, SpecError
from ccm_runtime.memory import Memory
from ccm_runtime.moment import Moment
from ccm_runtime.session import Session
from ccm_runtime.trial import Trial
from ccm_runtime.v1 import session_record_pb2 as pb
from ccm_runtime.vigil import Vigil

MAGIC = b"CCM1"
DIGEST_SIZE = 16
_HEAD = len(MAGIC) + DIGEST_SIZE
_FLOAT32 = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Stored:
    """A session as it was saved, and when."""

    session: Session
    saved_at: Moment


def to_bytes(stored: Stored) -> bytes:
    """Write a session."""
    session, saved_at = stored.session, stored.saved_at
    message = pb.SessionRecord(
        session_id=session.session_id,
        idempotency_key=session.idempotency_key,
        tenant=session.tenant,
        bundle_digest=session.bundle_digest,
        saved_at=pb.Moment(wall_s=saved_at.wall_s, boot_id=saved_at.boot_id, since_boot_s=saved_at.since_boot_s),
        memory=memory_to_proto(session.memory),
        last_answer=None if session.last_answer is None else wire.answer_to_proto(session.last_answer),
        misses=session.vigil.misses,
        mended=session.vigil.mended,
        safe_reason=wire.safe_to_proto(session.vigil.safe),
        client=session.client,
    ).SerializeToString()
    return MAGIC + _digest(message) + message


def from_bytes(data: bytes) -> Stored:
    """Read a session.

    Raises:
        RecordCorruptError: These are not the bytes that were written, or a later version wrote them.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise RecordCorruptError(f"the record begins with {data[:4]!r}, expected {MAGIC!r}: another version wrote it")
    if data[len(MAGIC) : _HEAD] != _digest(data[_HEAD:]):
        raise RecordCorruptError(f"the record's digest is not that of its {len(data) - _HEAD} bytes")
    try:
        message = pb.SessionRecord.FromString(data[_HEAD:])
        session = Session(
            message.session_id,
            memory_from_proto(message.memory),
            wire.answer_from_proto(message.last_answer) if message.HasField("last_answer") else None,
            message.idempotency_key,
            message.tenant,
            Vigil(message.misses, message.mended, wire.safe_from_proto(message.safe_reason)),
            message.bundle_digest,
            client=message.client,
        )
    except (DecodeError, SpecError, ValueError) as error:
        raise RecordCorruptError(f"the record holds no session: {error}") from None
    saved_at = Moment(message.saved_at.wall_s, message.saved_at.boot_id, message.saved_at.since_boot_s)
    return Stored(session, saved_at)


def _digest(message: bytes) -> bytes:
    return hashlib.blake2b(message, digest_size=DIGEST_SIZE).digest()


def memory_to_proto(memory: Memory) -> pb.TrialMemory:
    """Write a trial, bit for bit."""
    trial = memory.trial
    return pb.TrialMemory(
        explore_episodes=trial.explore_episodes,
        horizon=trial.horizon,
        episodes_finished=trial.episodes_finished,
        steps_in_episode=trial.steps_in_episode,
        in_episode=trial.in_episode,
        closed=trial.closed,
        belief=pack(memory.belief),
        latent_mean=pack(memory.latent_mean),
        latent_std=pack(memory.latent_std),
        latent=pack(memory.latent),
        observation=pack(memory.observation),
        command=None if memory.command is None else pack(memory.command),
        last_safe=None if memory.last_safe is None else pack(memory.last_safe),
        seed=memory.seed,
        stochastic=memory.stochastic,
        num_events=memory.num_events,
        returns=memory.returns,
        return_so_far=memory.return_so_far,
        re_explore=memory.re_explore,
        owed=[wire.transition_to_proto(transition) for transition in memory.owed],
    )


def memory_from_proto(message: pb.TrialMemory) -> Memory:
    """Read a trial."""
    trial = Trial(
        explore_episodes=message.explore_episodes,
        horizon=message.horizon if message.HasField("horizon") else None,
        episodes_finished=message.episodes_finished,
        steps_in_episode=message.steps_in_episode,
        in_episode=message.in_episode,
        closed=message.closed,
    )
    return Memory(
        trial=trial,
        belief=unpack(message.belief),
        latent_mean=unpack(message.latent_mean),
        latent_std=unpack(message.latent_std),
        latent=unpack(message.latent),
        observation=unpack(message.observation),
        command=unpack(message.command) if message.HasField("command") else None,
        last_safe=unpack(message.last_safe) if message.HasField("last_safe") else None,
        seed=message.seed,
        stochastic=message.stochastic,
        num_events=message.num_events,
        returns=tuple(message.returns),
        return_so_far=message.return_so_far,
        re_explore=message.re_explore,
        owed=tuple(wire.transition_from_proto(transition) for transition in message.owed),
    )


def pack(vector: Array) -> bytes:
    """Write a vector, bit for bit."""
    return vector.astype(_FLOAT32, copy=False).tobytes()


def unpack(data: bytes) -> Array:
    """Read a vector of its own: one that shares the record's bytes could not be written to."""
    return np.frombuffer(data, _FLOAT32).astype(np.float32)
