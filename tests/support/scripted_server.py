"""A real gRPC server that follows the contract with made-up answers, and breaks off where a test tells it to."""

# ruff: noqa: N802 (gRPC names its handlers and hands them what they may not need)

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np

from ccm_runtime import statuses, wire
from ccm_runtime.errors import SessionUnknownError, StepGapError, TrialOrderError
from ccm_runtime.messages import Agent, Answer, BeginEpisode, Opened, Reaction
from ccm_runtime.specs import BoxSpec
from ccm_runtime.trial import EpisodeBegan, Stepped, Trial, advance
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationServicer, add_AdaptationServicer_to_server

NONE = (None, None)
AGENT = Agent(
    agent_id="scripted",
    family="hard-point-robot-aligned",
    bundle_digest="ab" * 32,
    observation=BoxSpec(name="observation", labels=("x", "y"), units=("m", "m"), low=NONE, high=NONE),
    action=BoxSpec(name="action", labels=("x", "y"), units=("m", "m"), low=(-0.5, -0.5), high=(0.5, 0.5)),
    explore_episodes=2,
    episodes=3,
    horizon=4,
    belief_size=3,
    latent_size=1,
    server_version="0",
    method="scripted",
)


@dataclass
class _Held:
    trial: Trial = field(default_factory=lambda: Trial(AGENT.explore_episodes, AGENT.horizon))
    sequence: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)


class Scripted(AdaptationServicer):
    """Answers event n with the action (n, n).

    Attributes:
        breaks: Faults still to happen, by sequence number: `before` (the event is lost), `after` (the answer is
            lost), `silence` (no answer at all).
        durable: Events up to this number survive `crash`; `None`: sessions are not durable.
        moves: Agents that a session goes on with after its event of a number, which ends an episode.
        received: Sequence numbers in the order in which they came.
        applied: First entry of the applied action of each transition, in the same order; `None`: it was not told.
    """

    def __init__(self) -> None:
        self.breaks: dict[int, str] = {}
        self.durable: int | None = None
        self.moves: dict[int, Agent] = {}
        self.received: list[int] = []
        self.applied: list[float | None] = []
        self.keys: list[str] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self._held: dict[str, _Held] = {}

    def crash(self) -> None:
        """Forget what is not durable."""
        for held in self._held.values():
            held.sequence = min(held.sequence, self.durable or 0)
            held.trial = held.trials[held.sequence]

    def forget(self) -> None:
        """Forget every session."""
        self._held.clear()

    async def DescribeAgent(self, request, context):
        self.metadata.append({**dict(context.invocation_metadata()), "peer": context.peer()})
        return pb.DescribeAgentResponse(agent=wire.agent_to_proto(AGENT))

    async def Act(self, request, context):
        return pb.ActResponse(action=request.observation, certainty=0.5)

    async def Encode(self, request, context):
        belief = [sum(transition.reward for transition in request.transitions), 0.0, 0.0]
        return pb.EncodeResponse(context=pb.Context(bundle_digest=AGENT.bundle_digest, belief=belief))

    async def CloseSession(self, request, context):
        held = self._held.pop(request.session_id, None)
        return pb.CloseSessionResponse(returns=[] if held is None else [1.0])

    async def Session(self, request_iterator, context):
        first = await context.read()
        try:
            session_id, held = self._attach(first)
        except SessionUnknownError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error), statuses.trailing_metadata(error))
        agent = next((self.moves[moved] for moved in sorted(self.moves, reverse=True) if moved <= held.sequence), AGENT)
        opened = Opened(session_id, "secret", agent, held.sequence + 1, 1000)
        await context.write(pb.SessionResponse(opened=wire.opened_to_proto(opened)))
        while (request := await context.read()) is not grpc.aio.EOF:
            if request.WhichOneof("kind") == "close":
                del self._held[session_id]
                await context.write(pb.SessionResponse(closed=pb.CloseSessionResponse(returns=[1.0])))
                return
            sequence, event = wire.event_from_proto(request.event)
            fault = self.breaks.pop(sequence, "")
            if fault == "before":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut before the event")
            self.received.append(sequence)
            applied = getattr(event, "applied_action", None)
            self.applied.append(None if applied is None else float(applied[0]))
            response = self._answer(held, sequence, event)
            if fault == "after":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut after the event")
            if fault == "silence":
                await asyncio.Event().wait()
            await context.write(response)

    def _attach(self, first):
        if first.WhichOneof("kind") == "resume":
            if first.resume.session_id not in self._held:
                raise SessionUnknownError("no such session; open a new one")
            return first.resume.session_id, self._held[first.resume.session_id]
        self.keys.append(first.open.idempotency_key)
        session_id = f"session-{len(self.keys)}"
        held = self._held[session_id] = _Held()
        held.trials[0] = held.trial
        return session_id, held

    def _answer(self, held, sequence, event):
        if sequence == held.sequence:
            return pb.SessionResponse(answer=wire.answer_to_proto(held.answers[sequence]))
        if sequence != held.sequence + 1:
            gap = StepGapError(f"expected event {held.sequence + 1}, got {sequence}", held.sequence + 1)
            return pb.SessionResponse(error=statuses.event_error(sequence, gap))
        begins = isinstance(event, BeginEpisode)
        step = EpisodeBegan() if begins else Stepped(event.terminated, event.truncated)
        try:
            held.trial = advance(held.trial, step)
        except TrialOrderError as error:
            return pb.SessionResponse(error=statuses.event_error(sequence, error))
        held.sequence = sequence
        if sequence in self.moves:
            held.trial = held.trial._replace(horizon=self.moves[sequence].horizon)
        held.trials[sequence] = held.trial
        over = not held.trial.in_episode
        reaction = Reaction(
            action=None if over else np.full(2, sequence, np.float32),
            phase=held.trial.phase,
            episode=held.trial.episodes_finished,
            step=held.trial.steps_in_episode,
            episode_over=over,
            certainty=0.25,
            novelty=0.5,
        )
        changed = sequence in self.moves
        held.answers[sequence] = Answer(sequence, reaction, durable_sequence=self.durable or 0, version_changed=changed)
        return pb.SessionResponse(answer=wire.answer_to_proto(held.answers[sequence]))


@asynccontextmanager
async def listening(servicer: Scripted, port: int = 0) -> AsyncIterator[str]:
    """Serve on a loopback port; yields `HOST:PORT`."""
    server = grpc.aio.server()
    add_AdaptationServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)
