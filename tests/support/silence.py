"""A robot that never waits, and a server that falls silent: stopped, killed, or behind a proxy that swallows bytes."""

import asyncio
import signal
import time
from contextlib import asynccontextmanager, suppress

import numpy as np
from durable import image
from mid_session import LIMIT_S, KilledServer

from ccm_runtime.adapt import Adapter
from ccm_runtime.async_client import AsyncClient
from ccm_runtime.bundle import load_bundle
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.pilot import AsyncPilot

VALID_MS = 300
SAFE = (0.01, -0.02)  # no policy's action: what is stale cannot be taken for it


class SwallowingProxy:
    """Forwards bytes to a port, or swallows them while both ends believe that they are connected."""

    def __init__(self, port):
        self._target = port
        self._swallows = False
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self._cut()

    def swallow(self):
        """From now on nothing gets through, either way."""
        self._swallows = True

    def heal(self):
        """End the connections whose bytes are lost, and forward those of new ones."""
        self._swallows = False
        self._cut()

    def _cut(self):
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader, writer):
        self._writers.add(writer)
        with suppress(OSError):
            while data := await reader.read(65536):
                if not self._swallows:
                    writer.write(data)
                    await writer.drain()
        self._writers.discard(writer)
        writer.close()


@asynccontextmanager
async def trouble_with(kind, bundle, folder):
    """Yield an address, and what makes its server fall silent and come back."""
    server = KilledServer(bundle, folder / "s.db", **{"action-valid-ms": VALID_MS, "store-commit-ms": 5})
    address = await server.start()
    try:
        if kind == "stopped":
            yield address, lambda: server.process.send_signal(signal.SIGSTOP), _later(server, signal.SIGCONT)
        elif kind == "killed":
            yield address, lambda: server.process.send_signal(signal.SIGKILL), _again(server)
        else:
            async with SwallowingProxy(server.port) as proxy:

                async def heal():
                    proxy.heal()

                yield f"127.0.0.1:{proxy.port}", proxy.swallow, heal
    finally:
        server.process.send_signal(signal.SIGCONT)
        await server.kill()


def _later(server, number):
    async def send():
        server.process.send_signal(number)

    return send


def _again(server):
    async def start():
        await server.process.wait()
        await server.start()

    return start


class Robot:
    """Steps for ever with whatever action it is given, and keeps what it saw and did.

    Attributes:
        told: Every event, with the action that was truly applied.
        given: The action that came of each event; `None` where the safe one stood in, or the episode was over.
        answered: Events that the server answered in time.
        late: Actions that came after the one before them had run out.
        step: Of the episode; 0: it rests, and may wait for its server.
    """

    def __init__(self, seed):
        self._draw = np.random.default_rng(seed)
        self.told, self.given = [], []
        self.answered = self.late = self.step = 0

    async def run(self, pilot, until):
        """Go on until `until` is set and the episode is over."""
        while not until.is_set():
            await self._episode(pilot)

    async def _episode(self, pilot):
        self.step = 0
        action = await pilot.begin_episode(self._sees(None))
        self._note(pilot, action, 0)
        for step in range(1, 33):
            self.step, observation = step, self._sees(action)
            before, left_s, called_s = pilot.num_safe, pilot.watchdog.left_s, time.monotonic()
            action = await pilot.act(observation, float(np.float32(step)), truncated=step == 32)
            self.late += time.monotonic() - called_s > left_s
            self._note(pilot, action, pilot.num_safe - before)
            if action is None:
                return

    def _sees(self, action):
        observation = self._draw.normal(size=2).astype(np.float32)
        self._last = BeginEpisode(observation) if action is None else observation, action
        return observation

    def _note(self, pilot, action, safe):
        self.answered += not safe
        seen, applied = self._last
        if not isinstance(seen, BeginEpisode):
            step = pilot._steps
            seen = Transition(seen, float(step), truncated=step == 32, applied_action=applied)
        self.told.append(seen)
        self.given.append(None if safe else action)


def stale(robot, adapter):
    """How many actions were given that a server with all of the robot's story would not have given then; the trial."""
    memory, count = adapter.start(), 0
    for told, given in zip(robot.told, robot.given, strict=True):
        ((memory, reaction),) = adapter.step([memory], [told])
        count += given is not None and image(given) != image(reaction.action)
    return count, memory


async def campaign(kind, bundle, folder, faults, seed=0, *, between=20, silent_s=0.0):
    """Let a server fall silent `faults` times under a robot, after so many answers, for `silent_s` or more."""
    robot, over = Robot(seed), asyncio.Event()
    timeout_s = LIMIT_S if kind == "killed" else 1.0  # a busy machine may take seconds to start a server again
    async with (
        trouble_with(kind, bundle, folder) as (address, silence, heal),
        AsyncClient(address, timeout_s=timeout_s, connect_timeout_s=LIMIT_S) as client,
        client.open_session() as session,
        AsyncPilot(session, SAFE) as pilot,
    ):
        running = asyncio.create_task(robot.run(pilot, over))
        for _ in range(faults):
            await _until(running, robot, pilot, answered=between)
            await _until(running, robot, pilot, under_way=True)
            silence()
            await _until(running, robot, pilot, safe=2)
            await asyncio.sleep(silent_s)
            await heal()
        await _until(running, robot, pilot, answered=between)
        over.set()
        await asyncio.wait_for(running, LIMIT_S)
        closed = await session.close()
    count, memory = stale(robot, Adapter.of(OnnxPolicy(load_bundle(bundle))))
    return {
        "steps": len(robot.told),
        "safe_actions": pilot.num_safe,
        "late": robot.late,
        "stale": count,
        "beliefs_differing": int(image(closed.context.belief) != image(memory.belief)),
        "returns_differing": int(not np.array_equal(np.float32(closed.returns), np.float32(memory.returns))),
    }


async def _until(running, robot, pilot, *, answered=0, safe=0, under_way=False):
    """Wait for so many more answers or safe actions, and for the robot to be in the first half of an episode."""
    enough = robot.answered + answered, pilot.num_safe + safe
    async with asyncio.timeout(LIMIT_S):
        while robot.answered < enough[0] or pilot.num_safe < enough[1] or (under_way and not 0 < robot.step < 16):
            if running.done():
                running.result()
            await asyncio.sleep(0 if under_way else 0.005)
