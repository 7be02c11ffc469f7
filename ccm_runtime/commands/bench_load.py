"""A closed loop of clients in one thread: each sends its next message when its answer has come."""

import gc
import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ccm_runtime.commands.bench_connection import Connection
from ccm_runtime.errors import DeadlineError, ServerError
from ccm_runtime.v1 import adaptation_pb2 as pb

_SERVICE = "/ccm_runtime.v1.Adaptation/"
_SILENCE_S = 20.0
Request = tuple[str, bytes]


class Script(Protocol):
    """What one client says."""

    def opening(self) -> Request:
        """Say the first thing."""

    def next(self, response: bytes) -> Request:
        """Say what follows a response."""

    def closing(self) -> Request | None:
        """Say the last thing, if there is one."""


@dataclass(slots=True)
class Empty:
    """Sends nothing and is answered nothing, for as long as it is asked to."""

    path: str

    def opening(self) -> Request:
        """Say nothing."""
        return self.path, b""

    def next(self, response: bytes) -> Request:  # noqa: ARG002 (nothing is in it)
        """Say nothing."""
        return self.path, b""

    def closing(self) -> Request | None:
        """Have nothing to say."""
        return None


@dataclass(slots=True)
class Trial:
    """A client's side of trials without end, on a stream or by unary calls.

    Attributes:
        observation: What it always observes.
        stream: Whether it is a stream.
        timings: Where to note the server's own timing of each step: total and inference, in ms.
    """

    observation: Sequence[float]
    stream: bool
    timings: list[tuple[float, float]]
    _opened: pb.OpenSessionResponse | None = None
    _event: pb.Event = field(default_factory=pb.Event)

    def opening(self) -> Request:
        """Open a session that executes at once."""
        asked = pb.OpenSessionRequest(explore_episodes=0)
        if self.stream:
            return f"{_SERVICE}Session", pb.SessionRequest(open=asked).SerializeToString()
        return f"{_SERVICE}OpenSession", asked.SerializeToString()

    def next(self, response: bytes) -> Request:
        """Step, or begin an episode where none is under way."""
        if self._opened is None:
            told = pb.SessionResponse.FromString(response).opened if self.stream else None
            self._opened = told or pb.OpenSessionResponse.FromString(response)
            over = True
        else:
            over = self._judge(self._answer(response))
        self._event.sequence += 1
        if over:
            self._event.begin_episode.observation[:] = self.observation
        else:
            self._event.transition.observation[:] = self.observation
        return self._tell()

    def closing(self) -> Request | None:
        """Close the session."""
        if self._opened is None:
            return None
        asked = pb.CloseSessionRequest(session_id=self._opened.session_id, token=self._opened.token)
        if self.stream:
            return f"{_SERVICE}Session", pb.SessionRequest(close=asked).SerializeToString()
        return f"{_SERVICE}CloseSession", asked.SerializeToString()

    def _tell(self) -> Request:
        if self.stream:
            return f"{_SERVICE}Session", pb.SessionRequest(event=self._event).SerializeToString()
        assert self._opened is not None  # noqa: S101 (events follow the opening)
        request = pb.StepRequest(session_id=self._opened.session_id, token=self._opened.token, event=self._event)
        return f"{_SERVICE}Step", request.SerializeToString()

    def _answer(self, response: bytes) -> pb.Answer:
        return (pb.SessionResponse if self.stream else pb.StepResponse).FromString(response).answer

    def _judge(self, answer: pb.Answer) -> bool:
        """Return whether the episode is over; an answer to anything but the last event ends the benchmark."""
        if answer.sequence != self._event.sequence:
            raise ServerError(f"expected the answer to event {self._event.sequence}, got {answer.sequence}")
        self.timings.append((answer.timing.total_ms, answer.timing.infer_ms))
        return answer.episode_over


@dataclass(frozen=True, slots=True)
class Load:
    """What a closed loop met: the time of every exchange, in the order of its end, and how long it all took."""

    latencies_s: list[float]
    seconds: float


@dataclass(slots=True)
class _Client:
    connection: Connection
    script: Script
    sent_s: float = 0.0


def load(
    connect: Callable[[], Connection],
    scripts: Sequence[Script],
    *,
    warm_s: float,
    seconds: float,
    started: Callable[[], None] = lambda: None,
) -> Load:
    """Let every script talk to a server on a connection of its own.

    Args:
        connect: Opens a connection.
        scripts: The clients, one each.
        warm_s: How long to talk before it counts.
        seconds: How long it counts.
        started: Called when it begins to count.

    Raises:
        ServerError: The server refused a call, or gave an answer to something else.
        DeadlineError: No client was answered in a long time.
    """
    clients = [_Client(connect(), script) for script in scripts]
    selector = selectors.DefaultSelector()
    gc.collect()
    gc.disable()
    try:
        for client in clients:
            selector.register(client.connection.socket, selectors.EVENT_READ, client)
        for client in clients:
            client.connection.send(*client.script.opening())
        for client in clients:
            _say(client, client.connection.wait())
        _talk(selector, warm_s)
        started()
        measured = _talk(selector, seconds)
        for client in clients:
            _leave(client)
        return measured
    finally:
        gc.enable()
        for client in clients:
            client.connection.close()
        selector.close()


def _talk(selector: selectors.BaseSelector, seconds: float) -> Load:
    """Keep every client talking for a while; each is left with one answer to wait for."""
    latencies: list[float] = []
    began_s = now_s = time.perf_counter()
    while now_s - began_s < seconds:
        ready = selector.select(_SILENCE_S)
        if not ready:
            raise DeadlineError(f"no client was answered within {_SILENCE_S:g} s")
        for key, _ in ready:
            client: _Client = key.data
            response = client.connection.receive()
            if response is None:
                continue
            now_s = time.perf_counter()
            latencies.append(now_s - client.sent_s)
            _say(client, response)
    return Load(latencies, now_s - began_s)


def _say(client: _Client, response: bytes) -> None:
    path, message = client.script.next(response)
    client.sent_s = time.perf_counter()
    client.connection.send(path, message)


def _leave(client: _Client) -> None:
    """Take the last answer and close the session, so that the next measurement meets an idle server."""
    client.connection.wait()
    farewell = client.script.closing()
    if farewell is not None:
        client.connection.exchange(*farewell)
