"""Robots without a body for `ccm soak`: each runs trial after trial, as fast as it is answered, each trial anew."""

import gc
import random
import selectors
import time
from dataclasses import dataclass

from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.errors import DeadlineError, ServerError
from ccm_runtime.statuses import error_from_event
from ccm_runtime.v1 import adaptation_pb2 as pb

_PATH = "/ccm_runtime.v1.Adaptation/Session"
_SILENCE_S = 60.0
_NUM_SEEN = 509  # observations that a robot goes round in


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps that were taken in one go.

    Attributes:
        latencies_s: Time of each step, from its sending to its answer.
        seconds: How long they took together.
        num_trials: Trials that ended meanwhile.
    """

    latencies_s: list[float]
    seconds: float
    num_trials: int


class Robots:
    """Sessions that are stepped together from one thread, each on a connection of its own.

    Args:
        address: `HOST:PORT`.
        num: How many.
        observation_size: Of what they see.
        episodes: Episodes of a trial; after it the session is closed and another one opened, on a new connection.

    Raises:
        CcmError: An event was refused, a connection was lost, or nobody was answered for a minute.
    """

    def __init__(self, address: str, num: int, observation_size: int, episodes: int) -> None:
        self._address = address
        self._episodes = episodes
        rng = random.Random(0)  # noqa: S311 (no secret)
        self._seen = [[rng.gauss(0.0, 1.0) for _ in range(observation_size)] for _ in range(_NUM_SEEN)]
        self._selector = selectors.DefaultSelector()
        for number in range(num):
            self._open(number)

    def walk(self, num_steps: int) -> Stretch:
        """Take so many steps, all robots together; afterwards each waits for an answer, as before."""
        latencies: list[float] = []
        num_trials, began_s = 0, time.perf_counter()
        gc.collect()
        gc.disable()  # or our own pauses would be the slowest answers
        try:
            while len(latencies) < num_steps:
                ready = self._selector.select(_SILENCE_S)
                if not ready:
                    raise DeadlineError(f"no robot was answered within {_SILENCE_S:g} s")
                for key, _ in ready:
                    num_trials += self._hear(key.data, latencies)
        finally:
            gc.enable()
        return Stretch(latencies, time.perf_counter() - began_s, num_trials)

    def close(self) -> None:
        """Leave; the sessions stay with the server."""
        for key in list(self._selector.get_map().values()):
            key.data.wire.close()
        self._selector.close()

    def _open(self, number: int) -> None:
        robot = _Robot(Wire(self._address, stream=True), number)
        self._selector.register(robot.wire.socket, selectors.EVENT_READ, robot)
        robot.say(pb.SessionRequest(open=pb.OpenSessionRequest(seed=number)))

    def _hear(self, robot: "_Robot", latencies: list[float]) -> bool:
        """Take what came for a robot, and let it go on; return whether its trial has ended."""
        message = robot.wire.receive()
        if message is None:
            return False
        response = pb.SessionResponse.FromString(message)
        kind = response.WhichOneof("kind")
        if kind == "closed":
            self._selector.unregister(robot.wire.socket)
            robot.wire.close()
            self._open(robot.number + 1)
            return True
        if kind == "answer":
            latencies.append(time.perf_counter() - robot.sent_s)
        elif kind == "error":
            raise error_from_event(response.error)
        if robot.finished(response, self._episodes):
            robot.say(pb.SessionRequest(close=pb.CloseSessionRequest()))
        else:
            robot.step(self._seen[(robot.number + robot.event.sequence) % _NUM_SEEN])
        return False


class _Robot:
    """One session: its connection, and the event that it told last."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire, self.number = wire, number
        self.event = pb.Event()
        self.sent_s = 0.0
        self._over = True
        self._num_episodes = 0

    def finished(self, response: pb.SessionResponse, episodes: int) -> bool:
        """Take an answer in; return whether the trial has had its episodes."""
        if response.HasField("answer"):
            if response.answer.sequence != self.event.sequence:
                raise ServerError(f"event {self.event.sequence} was answered with {response.answer.sequence}")
            self._over = response.answer.episode_over
            self._num_episodes += self._over
        return self._num_episodes >= episodes

    def step(self, observation: list[float]) -> None:
        """Tell the next event."""
        self.event.sequence += 1
        if self._over:
            self.event.begin_episode.observation[:] = observation
        else:
            self.event.transition.observation[:] = observation
            self.event.transition.reward = observation[0]
        self.say(pb.SessionRequest(event=self.event))

    def say(self, request: pb.SessionRequest) -> None:
        """Send a message."""
        self.sent_s = time.perf_counter()
        self.wire.send(_PATH, request.SerializeToString())
