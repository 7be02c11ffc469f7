"""Whatever goes over the wire comes out as it went in, and no bytes become an event in silence."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ccm_runtime import wire
from ccm_runtime.errors import SpecError
from ccm_runtime.messages import (
    Acted,
    Agent,
    Answer,
    BeginEpisode,
    Context,
    Encoded,
    EncodedTransition,
    Intervention,
    Opened,
    Reaction,
    SafeReason,
    SessionClosed,
    SessionOptions,
    Standing,
    Transition,
)
from ccm_runtime.specs import BoxSpec
from ccm_runtime.trial import Phase
from ccm_runtime.v1 import adaptation_pb2 as pb

floats = st.floats(width=32)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
uint32, uint64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
words = st.text(max_size=8)
vectors = st.lists(floats, max_size=5).map(lambda values: np.array(values, np.float32))
some = st.lists(floats, min_size=1, max_size=5).map(lambda values: np.array(values, np.float32))
contexts = st.builds(Context, words, vectors)
safe = st.none() | st.sampled_from(SafeReason)
interventions = st.lists(st.sampled_from(Intervention), max_size=4).map(tuple)


@st.composite
def boxes(draw):
    size = draw(st.integers(1, 4))
    edges = [sorted(draw(st.tuples(finite, finite))) for _ in range(size)]
    return BoxSpec(
        name=draw(words),
        labels=tuple(draw(words) for _ in edges),
        units=tuple(draw(words) for _ in edges),
        low=tuple(draw(st.none() | st.just(low)) for low, _ in edges),
        high=tuple(draw(st.none() | st.just(high)) for _, high in edges),
    )


agents = st.builds(Agent, words, words, words, boxes(), boxes(), uint32, uint32, uint32, uint32, uint32, words, words)
events = st.one_of(
    st.builds(BeginEpisode, vectors, st.booleans(), st.booleans()),
    st.builds(Transition, vectors, floats, st.booleans(), st.booleans(), st.none() | some),
)
reactions = st.builds(
    Reaction,
    st.none() | some,
    st.sampled_from(Phase),
    uint32,
    uint32,
    st.booleans(),
    floats,
    floats,
    interventions,
    st.booleans(),
)
options = st.builds(
    SessionOptions,
    uint64,
    st.booleans(),
    words,
    uint32,
    uint32,
    words,
    st.none() | contexts,
    st.none() | uint32,
    words,
    st.booleans(),
)


def survives(value, write, read):
    """A value that is written, sent, read and written again is the same message."""
    message = write(value)
    sent = type(message).FromString(message.SerializeToString())
    assert message.SerializeToString(deterministic=True) == write(read(sent)).SerializeToString(deterministic=True)
    return read(sent)


@given(boxes())
def test_a_spec_survives_the_wire(spec):
    assert spec == survives(spec, wire.box_to_proto, wire.box_from_proto)


@given(agents)
def test_an_agent_survives_the_wire(agent):
    assert agent == survives(agent, wire.agent_to_proto, wire.agent_from_proto)


@given(options)
def test_options_survive_the_wire(value):
    back = survives(value, wire.options_to_proto, wire.options_from_proto)
    assert (value.seed, value.explore_episodes, value.re_explore) == (back.seed, back.explore_episodes, back.re_explore)


@given(uint64, events)
def test_an_event_survives_the_wire(sequence, event):
    def read(message):
        return wire.event_from_proto(message)

    number, back = survives((sequence, event), lambda pair: wire.event_to_proto(*pair), read)
    assert sequence == number
    assert type(event) is type(back)
    for said in ("leave_safe", "abandon"):
        assert getattr(event, said, None) == getattr(back, said, None)


answers = st.builds(Answer, uint64, reactions, uint32, uint64, floats, floats, st.booleans(), safe, st.booleans())


@given(answers)
def test_an_answer_survives_the_wire(answer):
    back = survives(answer, wire.answer_to_proto, wire.answer_from_proto)
    assert answer.reaction.interventions == back.reaction.interventions
    assert (answer.safe, answer.reaction.task_changed) == (back.safe, back.reaction.task_changed)
    assert (answer.reaction.action is None) == (back.reaction.action is None)


standings = st.builds(
    Standing,
    st.none() | answers,
    st.lists(st.floats(), max_size=4).map(tuple),
    st.floats(),
    st.sampled_from(Phase),
)


@given(st.builds(Opened, words, words, agents, uint64, uint32, standings))
def test_where_a_session_is_survives_the_wire(opened):
    back = survives(opened, wire.opened_to_proto, wire.opened_from_proto)
    assert opened.standing.phase is back.standing.phase
    assert (opened.standing.last_answer is None) == (back.standing.last_answer is None)


@given(st.builds(Opened, words, words, agents, uint64, uint32))
def test_an_opened_session_survives_the_wire(opened):
    assert opened == survives(opened, wire.opened_to_proto, wire.opened_from_proto)


@given(st.builds(SessionClosed, st.lists(floats, max_size=3).map(tuple), st.none() | contexts))
def test_a_closed_session_survives_the_wire(closed):
    survives(closed, wire.closed_to_proto, wire.closed_from_proto)


@given(st.builds(EncodedTransition, vectors, vectors, floats, vectors))
def test_a_transition_survives_the_wire(transition):
    survives(transition, wire.transition_to_proto, wire.transition_from_proto)


@given(st.builds(Encoded, contexts, vectors, vectors, floats, floats))
def test_an_encoded_context_survives_the_wire(encoded):
    survives(encoded, wire.encoded_to_proto, wire.encoded_from_proto)


@given(st.builds(Acted, vectors, floats, floats, interventions))
def test_a_stateless_action_survives_the_wire(acted):
    survives(acted, wire.acted_to_proto, wire.acted_from_proto)


@given(st.binary(max_size=60))
def test_no_bytes_become_an_event_in_silence(data):
    try:
        message = pb.Event.FromString(data)
    except Exception as error:  # protobuf's own DecodeError
        assert "DecodeError" in type(error).__name__  # noqa: PT017
        return
    try:
        wire.event_from_proto(message)
    except SpecError as error:
        assert "no kind" in str(error)  # noqa: PT017
