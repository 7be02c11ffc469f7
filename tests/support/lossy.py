"""A network that loses, doubles, delays and reorders; a client that insists; and a checker of the history they make."""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field

import grpc
import numpy as np
from durable import Model, event, image

from ccm_runtime import statuses, wire
from ccm_runtime.errors import StepGapError
from ccm_runtime.v1 import adaptation_pb2 as pb

LIMIT_S = 30.0


@dataclass
class History:
    """What came back, of whatever was sent.

    Attributes:
        answers: Bytes of every answer, by session and number.
        gaps: For every refusal: the number, the expected one, and the first that had no answer when it was sent.
        events: Events that were answered.
        calls: Calls that reached the server.
    """

    answers: dict[tuple[int, int], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    gaps: list[tuple[int, int, int]] = field(default_factory=list)
    events: int = 0
    calls: int = 0


class Lossy:
    """Sends events over such a network.

    Args:
        send: Makes one call: session's index and event to answer.
        history: Takes down what comes back.
        seed: Of what goes wrong.
        rate: How often each thing goes wrong.
    """

    def __init__(self, send, history, seed, rate=0.2):
        self._send, self._history, self._rate = send, history, rate
        self._rng = random.Random(seed)
        self._late = []

    async def tell(self, index, message):
        """Send until an answer gets through."""
        while True:
            if self._happens():  # lost on the way there: the client's patience ends, and it tries again
                continue
            calls = [self._call(index, message)]
            if self._happens():  # doubled: both under way at once
                calls.append(self._call(index, message))
            if self._happens():  # a copy is held back, to come when it is history
                self._late.append((index, message))
            if self._late and self._happens():  # and one such comes now, before or after what is new
                late = self._late.pop(self._rng.randrange(len(self._late)))
                calls.insert(self._rng.randrange(len(calls) + 1), self._call(*late))
            results = await asyncio.gather(*calls)
            answered = [r for r in results if r is not None and r.sequence == message.sequence]
            if answered and not self._happens():  # else: lost on the way back
                self._history.events += 1
                return answered[0]

    async def settle(self):
        """Deliver what is still held back."""
        for index, message in self._late:
            await self._call(index, message)

    def _happens(self):
        return self._rng.random() < self._rate

    async def _call(self, index, message):
        history = self._history
        history.calls += 1
        try:
            answer = await self._send(index, message)
        except StepGapError as gap:
            history.gaps.append((index, message.sequence, gap.expected))
            return None
        history.answers[index, message.sequence].add(answer.SerializeToString(deterministic=True))
        return answer


def violations(history, told, adapter):
    """What in a history could not have come from a server that takes each event once: lines for a person."""
    found = []
    for index, count in told.items():
        model = Model(index, adapter)
        for sequence in range(1, count + 1):
            answers = history.answers[index, sequence]
            if len(answers) != 1:
                found.append(f"session {index}, event {sequence}: {len(answers)} different answers")
            _, reaction = model.after(sequence)
            reactions = [wire.answer_from_proto(pb.Answer.FromString(answer)).reaction for answer in answers]
            if any(image(answered) != image(reaction) for answered in reactions):
                found.append(f"session {index}, event {sequence}: the answer is not the model's")
    for index, sequence, expected in history.gaps:
        if not 1 <= expected <= told[index] + 1 or sequence in {expected, expected - 1}:
            found.append(f"session {index}, event {sequence}: refused, although {expected} was expected")
    beyond = [key for key in history.answers if key[1] > told[key[0]]]
    return found + [f"{key}: answered, but never told" for key in beyond]


async def campaign(stub, adapter, num_events, seed, *, num_sessions=8, rate=0.2):
    """Tell `num_events` events over a lossy network; the counts, whose `violations` must be empty."""
    history, opened = History(), {}
    for index in range(num_sessions):
        opened[index] = await stub.OpenSession(pb.OpenSessionRequest(seed=index, stochastic=True), timeout=LIMIT_S)

    async def send(index, message):
        session = opened[index]
        request = pb.StepRequest(session_id=session.session_id, token=session.token, event=message)
        try:
            return (await stub.Step(request, timeout=LIMIT_S)).answer
        except grpc.aio.AioRpcError as error:
            raise statuses.error_from_rpc(error.code(), error.details(), list(error.trailing_metadata())) from None

    async def trial(index):
        lossy = Lossy(send, history, seed * 1000 + index, rate)
        for sequence in range(1, num_events // num_sessions + 1):
            await lossy.tell(index, wire.event_to_proto(sequence, event(index, sequence)))
        await lossy.settle()

    await asyncio.gather(*map(trial, opened))
    told = dict.fromkeys(opened, num_events // num_sessions)
    found = violations(history, told, adapter)
    for index, session in opened.items():
        request = pb.CloseSessionRequest(session_id=session.session_id, token=session.token)
        closed = wire.closed_from_proto(await stub.CloseSession(request, timeout=LIMIT_S))
        memory, _ = Model(index, adapter).after(told[index])
        same_returns = np.array_equal(np.float32(closed.returns), np.float32(memory.returns))  # the wire's are single
        if image(closed.context.belief) != image(memory.belief) or not same_returns:
            found.append(f"session {index}: the belief or the returns are not the model's")
    return {
        "events": sum(told.values()),
        "calls": history.calls,
        "refused": len(history.gaps),
        "violations": found,
    }
