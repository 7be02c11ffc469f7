"""Kill a real server while clients are in mid-session, start it again, and compare with an unbroken run."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from durable import Model, event, image

from ccm_runtime.adapt import Adapter
from ccm_runtime.async_client import AsyncClient
from ccm_runtime.bundle import load_bundle
from ccm_runtime.commands.server_process import free_port
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.messages import BeginEpisode

LIMIT_S = 120.0  # of a start and of a client's patience; far beyond both on a busy machine


class KilledServer:
    """`ccm serve` on one port and one store, that is killed and started again."""

    def __init__(self, bundle, store, **flags):
        self.port = free_port()
        options = {"port": self.port, "store": store, "log-level": "error", **flags}
        told = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._command = [sys.executable, "-m", "ccm_runtime", "serve", str(bundle), *told]
        self.process = None

    async def start(self):
        """Start it and wait until it accepts calls."""
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = await asyncio.create_subprocess_exec(*self._command, stderr=subprocess.PIPE, env=env)
        said = b""
        async with asyncio.timeout(LIMIT_S):
            while not said.startswith(b"listening on "):
                said = await self.process.stderr.readline()
                if not said:
                    raise RuntimeError("the server ended before it listened")
        return f"127.0.0.1:{self.port}"

    async def kill(self):
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


async def play(session, index, answers, until, pause_s=0.0):
    """Tell the events of `durable.event` until `until` is set, and add what each was answered with to `answers`.

    Before each of them `pause_s` goes by, as while a robot moves.
    """
    while not until.is_set():
        await asyncio.sleep(pause_s)
        told = event(index, len(answers) + 1)
        if session.episode_over != isinstance(told, BeginEpisode):
            raise RuntimeError(f"session {index} is not where the model is before {told}: {session.answer}")
        if isinstance(told, BeginEpisode):
            action = await session.begin_episode(told.observation)
        else:
            action = await session.act(told.observation, told.reward, truncated=told.truncated)
        answers.append((action, session.phase, session.episode, session.certainty))


async def all_answered(answers, playing):
    """Wait until every session has an answer more, or one has failed: a kill must meet them in the middle."""
    before = [len(told) for told in answers]
    async with asyncio.timeout(LIMIT_S):
        while any(len(told) == count for told, count in zip(answers, before, strict=True)):
            if any(task.done() for task in playing):
                return
            await asyncio.sleep(0.005)


def differing(answers, adapter, index):
    """How many answers are not those of an unbroken run, bit for bit."""
    model, count = Model(index, adapter), 0
    for sequence, (action, phase, episode, certainty) in enumerate(answers, 1):
        _, reaction = model.after(sequence)
        same = image(action) == image(reaction.action) and phase is reaction.phase
        count += not (same and episode == reaction.episode and np.float32(certainty) == np.float32(reaction.certainty))
    return count


async def played_under(blow, address, blows, num_sessions, pause_s=0.0):
    """Play sessions on a server while `blow(sessions)` falls on it; what each was answered with, and its end.

    Every second one takes `pause_s` a step, the others step as fast as they can.
    """
    until = asyncio.Event()
    async with AsyncClient(address, timeout_s=LIMIT_S) as client:
        sessions = [await client.open_session(seed=i, stochastic=True).open() for i in range(num_sessions)]
        answers = [[] for _ in sessions]
        playing = [asyncio.create_task(play(s, i, answers[i], until, i % 2 * pause_s)) for i, s in enumerate(sessions)]
        for _ in range(blows):
            await all_answered(answers, playing)
            await blow(sessions)
        await all_answered(answers, playing)
        until.set()
        await asyncio.gather(*playing)
        return answers, [await session.close() for session in sessions]


def adapter_of(bundle):
    """What a server steps a bundle's sessions with."""
    loaded = load_bundle(bundle)
    return Adapter.of(OnnxPolicy(loaded), loaded.manifest.safety, loaded.manifest.novelty)


def compared(bundle, answers, closed):
    """Count answers, and how many of them, and how many beliefs at the end, are not an unbroken run's."""
    adapter = adapter_of(bundle)
    beliefs = [Model(index, adapter).after(len(told))[0].belief for index, told in enumerate(answers)]
    return {
        "answers": sum(map(len, answers)),
        "differing": sum(differing(told, adapter, index) for index, told in enumerate(answers)),
        "beliefs_differing": sum(image(c.context.belief) != image(b) for c, b in zip(closed, beliefs, strict=True)),
    }


async def campaign(bundle: Path, store: Path, kills: int, seed: int, num_sessions: int = 4, **flags):
    """Kill the server `kills` times under `num_sessions` sessions; the counts, whose `differing` must be 0."""
    rng = random.Random(seed)
    server = KilledServer(bundle, store, **flags)
    address = await server.start()

    async def kill(_):
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        await server.kill()
        await server.start()

    try:
        answers, closed = await played_under(kill, address, kills, num_sessions)
    finally:
        await server.kill()
    return {"kills": kills, **compared(bundle, answers, closed)}
