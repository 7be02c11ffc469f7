"""Change an agent's version again and again while sessions are stepped, and look at every answer of theirs."""

import asyncio
import hashlib
import random
import shutil
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.bundle import MANIFEST
from ccm_runtime.errors import CcmError
from ccm_runtime.manifest import MODEL_CARD, FileDigest, from_bytes, to_bytes
from ccm_runtime.v1 import admin_pb2
from ccm_runtime.v1.admin_pb2_grpc import AdminStub

LIMIT_S = 60.0
STEPS = 8  # of an episode, at most


def variants(bundle, folder, agent, number):
    """Publish copies of a bundle that differ in their model card, and so in their digest; their names."""
    names = [f"v{index}" for index in range(number)]
    for name in names:
        copy = Path(shutil.copytree(bundle, folder / agent / name))
        card, manifest = copy / MODEL_CARD, from_bytes((copy / MANIFEST).read_bytes())
        text = card.read_bytes() + f"\n{name}\n".encode()
        listed = FileDigest(size_bytes=len(text), sha256=hashlib.sha256(text).hexdigest())
        card.write_bytes(text)
        (copy / MANIFEST).write_bytes(
            to_bytes(manifest.model_copy(update={"files": {**manifest.files, MODEL_CARD: listed}}))
        )
    (folder / agent / "current").symlink_to(names[0])
    return names


@dataclass
class Found:
    """What the clients met."""

    steps: int = 0
    episodes: int = 0
    sessions: int = 0
    moved: int = 0
    failed: list = field(default_factory=list)
    step_ms: list = field(default_factory=list)
    load_ms: list = field(default_factory=list)
    waits_for_room: int = 0
    digests: set = field(default_factory=set)


async def robot(client, index, found, stop):
    """Run sessions of some episodes, one after the other; whatever is not as it must be is noted."""
    rng = random.Random(index)
    while not stop.is_set():
        try:
            await trial(client, rng, found)
        except CcmError as error:
            found.failed.append(f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(0.05)


async def trial(client, rng, found):
    """One session: its bundle changes at the end of an episode that says so, and never else."""
    async with client.open_session(seed=rng.getrandbits(32)) as session:
        digest, moves = session.agent.bundle_digest, 0
        found.sessions += 1
        found.digests.add(digest)
        blank = [0.0] * session.agent.observation.size
        for _ in range(rng.randint(1, 4)):
            await timed(found, session.begin_episode(blank))
            step = 0
            while not session.episode_over:
                step += 1
                await timed(found, session.act(blank, 0.5, truncated=step == STEPS))
                changed = session.version_changed
                if changed and not session.episode_over:
                    found.failed.append("a version changed in mid-episode")
            moves += changed
            found.episodes += 1
        closed = await session.close()
    found.moved += moves
    if moves < 2 and (moves == 1) == (closed.context.bundle_digest == digest):  # two moves may lead back
        found.failed.append(f"a session of {digest[:8]} ended with {closed.context.bundle_digest[:8]}, moves: {moves}")


async def timed(found, call):
    """Await a step and note how long it took."""
    began_s = time.perf_counter()
    await call
    found.step_ms.append(1000 * (time.perf_counter() - began_s))
    found.steps += 1


async def campaign(address, agent, versions, reloads, *, sessions=8, move_every=10, look=lambda: 0.0):
    """Load one version after the other under sessions; what was found, and what `look` told on the way."""
    found, stop, looks = Found(), asyncio.Event(), []
    async with AsyncClient(address, timeout_s=LIMIT_S) as client, grpc.aio.insecure_channel(address) as channel:
        admin = AdminStub(channel)
        robots = [asyncio.create_task(robot(client, index, found, stop)) for index in range(sessions)]
        quiet_ms = await lull(found)
        for turn in range(1, reloads + 1):
            request = admin_pb2.LoadVersionRequest(
                agent=agent, version=versions[turn % len(versions)], move=turn % move_every == 0
            )
            await load(admin, request, found)
            if turn % max(1, reloads // 20) == 0:
                looks.append(look())
        stop.set()
        await asyncio.gather(*robots)
    return summary(found, quiet_ms, looks)


async def lull(found):
    """Let the sessions run undisturbed for a while; how long their steps took."""
    while len(found.step_ms) < 200:
        await asyncio.sleep(0.01)
    quiet_ms, found.step_ms = found.step_ms, []
    return quiet_ms


async def load(admin, request, found):
    """Load a version, as soon as sessions of old ones have left room for it."""
    began_s = time.perf_counter()
    while True:
        try:
            await admin.LoadVersion(request, timeout=LIMIT_S)
            break
        except grpc.aio.AioRpcError as error:
            if "--max-versions" not in error.details():
                found.failed.append(f"load: {error.details()}")
                break
            found.waits_for_room += 1
            await asyncio.sleep(0.02)
    found.load_ms.append(1000 * (time.perf_counter() - began_s))


def summary(found, quiet_ms, looks):
    """What was found, as JSON holds it."""

    def quantiles(ms):
        ordered = sorted(ms)
        return {"p50": statistics.median(ordered), "p99": ordered[int(0.99 * len(ordered))], "max": ordered[-1]}

    told = {"step_ms_before": quiet_ms, "step_ms": found.step_ms, "load_ms": found.load_ms}
    return {
        "reloads": len(found.load_ms),
        "steps": found.steps,
        "episodes": found.episodes,
        "sessions": found.sessions,
        "versions_met": len(found.digests),
        "moves": found.moved,
        "waits_for_room": found.waits_for_room,
        **{name: {key: round(ms, 2) for key, ms in quantiles(values).items()} for name, values in told.items()},
        "looks": [round(one, 1) for one in looks],
        "failed": found.failed,
    }
