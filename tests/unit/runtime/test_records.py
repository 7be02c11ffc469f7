"""A stored session is read as it was written, bit for bit, or it is refused."""

import contextlib
import dataclasses
import hashlib

import numpy as np
import pytest
from durable import image, model
from hypothesis import given
from hypothesis import strategies as st

from ccm_runtime.errors import RecordCorruptError
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Answer, EncodedTransition, Intervention, Reaction, SafeReason
from ccm_runtime.moment import Moment
from ccm_runtime.records import Stored, from_bytes, to_bytes
from ccm_runtime.session import Session
from ccm_runtime.trial import Phase, Trial
from ccm_runtime.vigil import Vigil

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VECTORS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5).map(
    lambda values: np.array(values, np.float32)
)
COUNTS = st.integers(0, 10_000)
SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)
SAFE = st.none() | st.sampled_from(SafeReason)
TRIALS = st.builds(
    Trial, COUNTS, st.none() | st.integers(1, 1000), COUNTS, COUNTS, in_episode=st.booleans(), closed=st.booleans()
)
MEMORIES = st.builds(
    Memory, TRIALS, VECTORS, VECTORS, VECTORS, VECTORS, VECTORS, st.none() | VECTORS, st.none() | VECTORS,
    st.integers(0, 2**64 - 1), st.booleans(), st.integers(0, 2**63), st.lists(FLOATS, max_size=5).map(tuple), FLOATS,
    st.lists(st.builds(EncodedTransition, VECTORS, VECTORS, SINGLES, VECTORS), max_size=3).map(tuple), COUNTS,
)  # fmt: skip
REACTIONS = st.builds(
    Reaction, st.none() | VECTORS, st.sampled_from(Phase), COUNTS, COUNTS, st.booleans(), SINGLES, SINGLES,
    st.lists(st.sampled_from(Intervention), max_size=3).map(tuple), st.booleans(),
)  # fmt: skip
ANSWERS = st.builds(Answer, st.integers(1, 2**62), REACTIONS, COUNTS, COUNTS, SINGLES, SINGLES, st.booleans(), SAFE)
VIGILS = st.builds(Vigil, COUNTS, COUNTS, SAFE)
SESSIONS = st.builds(Session, st.text(), MEMORIES, st.none() | ANSWERS, st.text(), st.text(), VIGILS, st.text())
STORED = st.builds(Stored, SESSIONS, st.builds(Moment, FLOATS, st.text(), FLOATS))


@given(STORED)
def test_a_session_is_read_as_it_was_written_bit_for_bit(stored):
    assert image(stored) == image(from_bytes(to_bytes(stored)))


def test_no_field_of_a_session_is_forgotten():
    """Every field here differs from its default: one that a record leaves out comes back changed."""
    memory, reaction = model(3).after(4)
    one = np.ones(1, np.float32)
    memory = memory._replace(
        returns=(1.5, -2.25),
        return_so_far=0.1,
        last_safe=memory.command,
        owed=(EncodedTransition(one, one, 0.5, one),),
        re_explore=2,
    )
    trial = memory.trial._replace(episodes_finished=7)
    reaction = reaction._replace(interventions=(Intervention.RATE,), task_changed=True)
    answer = Answer(4, reaction, 5, 3, 1.5, 0.5, draining=True, safe=SafeReason.MISSES, version_changed=True)
    vigil = Vigil(2, 3, SafeReason.MISSES)
    session = Session("name", memory._replace(trial=trial), answer, "key", "tenant", vigil, "ab" * 32, client="client")
    blank = Memory(Trial(0), *(np.zeros(0, np.float32),) * 5)
    for full, empty in ((session.memory, blank), (session, Session("", blank)), (answer, Answer(0, reaction))):
        for name in full._fields if isinstance(full, tuple) else [field.name for field in dataclasses.fields(full)]:
            if name not in {"reaction", "epoch"}:  # a shared store keeps the epoch beside the record
                assert image(getattr(full, name)) != image(getattr(empty, name)), name
    stored = Stored(session, Moment(1.0, "boot", 2.0))
    assert image(stored) == image(from_bytes(to_bytes(stored)))


def test_a_flipped_bit_anywhere_is_noticed():
    data = to_bytes(Stored(model(0).session(8), Moment.now()))
    for place in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            with pytest.raises(RecordCorruptError):
                from_bytes(bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, 4, 19, 20, 100])
def test_a_record_that_was_cut_is_noticed(length):
    data = to_bytes(Stored(model(0).session(8), Moment.now()))
    for cut in (data[:length], data[: len(data) - 1 - length], data + b"x"):
        with pytest.raises(RecordCorruptError):
            from_bytes(cut)


def test_a_record_of_a_later_version_is_not_guessed_at():
    data = to_bytes(Stored(model(0).session(8), Moment.now()))
    with pytest.raises(RecordCorruptError, match="another version wrote it"):
        from_bytes(b"CCM2" + data[4:])


@given(st.binary(max_size=300), st.booleans())
def test_whatever_bytes_come_they_are_a_session_or_refused(payload, whole):
    data = b"CCM1" + hashlib.blake2b(payload, digest_size=16).digest() + payload if whole else payload
    with contextlib.suppress(RecordCorruptError):
        assert isinstance(from_bytes(data), Stored)


@given(st.data())
def test_a_record_spliced_of_two_is_a_session_or_refused(data):
    """With a right digest, as only a fault of ours could write it."""
    one, other = (to_bytes(Stored(model(index).session(9), Moment.now()))[20:] for index in range(2))
    place, count = data.draw(st.integers(0, len(one))), data.draw(st.integers(0, 40))
    payload = one[:place] + other[place : place + count] + one[place:]
    with contextlib.suppress(RecordCorruptError):
        assert isinstance(from_bytes(b"CCM1" + hashlib.blake2b(payload, digest_size=16).digest() + payload), Stored)


def test_what_is_read_may_be_written_to():
    session = from_bytes(to_bytes(Stored(model(0).session(8), Moment.now()))).session
    session.memory.belief[0] = 1.0


def test_ages_survive_a_clock_that_is_set():
    then = Moment(wall_s=1_000.0, boot_id="a", since_boot_s=50.0)
    assert 10.0 == then.age_s(Moment(2_145_916_800.0, "a", 60.0))  # set to 2038
    assert 10.0 == then.age_s(Moment(0.0, "a", 60.0))  # set back
    assert 5.0 == then.age_s(Moment(1_005.0, "b", 1.0))  # rebooted
    assert 0.0 == then.age_s(Moment(10.0, "b", 1.0))  # rebooted and set back
    assert 7.0 == Moment(1_000.0).age_s(Moment(1_007.0))  # a system that names no boots
