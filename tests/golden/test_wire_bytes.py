"""The bytes on the wire, which clients of every version and language depend on. A change here breaks them."""

import numpy as np
import pytest

from ccm_runtime import wire
from ccm_runtime.messages import (
    Agent,
    Answer,
    BeginEpisode,
    Context,
    EncodedTransition,
    Intervention,
    Reaction,
    SessionClosed,
    SessionOptions,
    Transition,
)
from ccm_runtime.specs import BoxSpec
from ccm_runtime.trial import Phase
from ccm_runtime.v1 import adaptation_pb2 as pb


def vec(*values):
    return np.array(values, np.float32)


REACTION = Reaction(
    action=vec(0.5, -1.0),
    phase=Phase.EXECUTE,
    episode=3,
    step=2,
    episode_over=False,
    certainty=0.25,
    novelty=1.5,
    interventions=(Intervention.BOUND, Intervention.RATE),
)
OPTIONS = SessionOptions(7, True, "walker", 2, 1, "ab", Context("ab", vec(1.0)), 0, "key")
HEIGHT = BoxSpec(name="height", labels=("z",), units=("m",), low=(None,), high=(1.5,))
FORCE = BoxSpec(name="force", labels=("f",), units=("N",), low=(-1.0,), high=(1.0,))
AGENT = Agent("walker-0", "walker", "ab", HEIGHT, FORCE, 2, 4, 200, 16, 8, "0.1.0", "pearl")
GOLDEN = {
    "agent": (
        wire.agent_to_proto(AGENT),
        (
            "0a0877616c6b65722d30120677616c6b65721a026162221a0a0668656967687412017a1a016d2204000080ff2a040000c03f2a190a05"
            "666f7263651201661a014e2204000080bf2a040000803f3002380440c801481050085a05302e312e306205706561726c"
        ),
    ),
    "begin_episode": (wire.event_to_proto(1, BeginEpisode(vec(1.0, 2.0))), "0801120a0a080000803f00000040"),
    "transition": (
        wire.event_to_proto(300, Transition(vec(1.0), 0.5, terminated=True, applied_action=vec(-1.0))),
        "08ac021a130a040000803f150000003f18012a04000080bf",
    ),
    "answer": (
        wire.answer_to_proto(Answer(9, REACTION, 1000, 8, 0.5, 0.25, True)),
        "080912080000003f000080bf1802200328023d0000803e450000c03f48e80750085a020102620a0d0000003f150000803e6801",
    ),
    "options": (
        wire.options_to_proto(OPTIONS),
        "080710011a0677616c6b657220022801320261623a0a0a02616212040000803f40004a036b6579",
    ),
    "closed": (
        wire.closed_to_proto(SessionClosed((1.0, 2.0), Context("ab", vec(1.0)))),
        "0a080000803f00000040120a0a02616212040000803f",
    ),
    "encode": (
        wire.encode_request(None, [EncodedTransition(vec(1.0), vec(2.0), 0.5, vec(3.0))]),
        "12170a040000803f1204000000401d0000003f220400004040",
    ),
    "act": (
        wire.act_request(Context("ab", vec(1.0)), [1.0], Phase.EXPLORE, [0.5]),
        "0a0a0a02616212040000803f12040000803f180122040000003f",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_of_a_message_stay_as_they_are(name):
    message, expected = GOLDEN[name]
    assert expected == message.SerializeToString(deterministic=True).hex()


def test_the_methods_stay_as_they_are():
    service = pb.DESCRIPTOR.services_by_name["Adaptation"]
    expected = ["DescribeAgent", "OpenSession", "Step", "CloseSession", "Session", "Encode", "Act"]
    assert "ccm_runtime.v1.Adaptation" == service.full_name
    assert expected == [method.name for method in service.methods]
