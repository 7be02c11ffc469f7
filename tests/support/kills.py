"""Kill a server's core at any instant, again and again, on one store, and look at what is left.

    python tests/support/kills.py STORE --kills 200 --seed 0
    python tests/support/kills.py STORE --point commit --kills 3

STORE is a file, or the URL of a Redis, which each child joins as another server and takes its sessions over. A child
opens (or goes on with) sessions, steps them as fast as it can and names on a pipe each event that was acknowledged as
durable. The parent kills it, opens the store, and holds every session against the model. Forked, so that a kill costs
milliseconds and not an interpreter's start.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from durable import AGENT, DIGEST, event, model, sessions_of
from redis_server import WholeStore

from ccm_runtime import crash_points, group_commit, sqlite_store
from ccm_runtime.config import ServerConfig
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.messages import SessionOptions
from ccm_runtime.session import SessionTable
from ccm_runtime.sqlite_store import SqliteStore
from ccm_runtime.store import is_url
from ccm_runtime.testing import manifest_of

LIMIT_S = 60.0


async def live(path, num_sessions, acknowledge):
    """Step sessions until killed."""
    config = ServerConfig(store=path, store_commit_ms=1.0, log_level="error")
    hosting = Hosting(ServedAgent(AGENT, manifest_of(AGENT), DIGEST), SessionTable(1000, 60.0), config)
    hosting.recover()
    opened = {}
    for index in range(num_sessions):
        opened[index] = await hosting.open(SessionOptions(seed=index, stochastic=True, idempotency_key=f"key-{index}"))
        acknowledge(index, opened[index].next_sequence - 1)
    nexts = {index: session.next_sequence for index, session in opened.items()}
    for turn in itertools.count():
        for index, session in opened.items():
            number = nexts[index]
            answer = await hosting.step(session.session_id, number, event(index, number))
            nexts[index] += 1
            acknowledge(index, answer.durable_sequence)
        if turn % 7 == 0:  # a session that comes and goes: its leaving must not take another's place
            brief = await hosting.open(SessionOptions(idempotency_key=f"brief-{turn}"))
            hosting.close(brief.session_id, brief.token)
        await asyncio.sleep(0)


def child(path, num_sessions, pipe, point, nth, *, live):
    """Be a server's core; never returns."""
    crash_points._name, crash_points._left = point, nth
    sqlite_store._CHECKPOINT_BYTES = 64 << 10  # often, so that kills meet checkpoints and tidying too
    group_commit._TIDY_EVERY_S = 0.01
    last = {}

    def acknowledge(index, sequence):
        if last.get(index, -1) < sequence:
            last[index] = sequence
            os.write(pipe, f"{index} {sequence}\n".encode())

    try:
        asyncio.run(live(path, num_sessions, acknowledge))
    except BaseException as error:
        sys.stderr.write(f"the child failed by itself: {error!r}\n")
        sys.stderr.flush()
    os._exit(1)


def run_once(path, num_sessions, delay_s, point="", nth=1, *, live=live):
    """Let a child live until it is killed; what it acknowledged, by session, and whether it died so: at its point."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        child(path, num_sessions, writer, point, nth, live=live)
    os.close(writer)
    said, deadline = b"", time.monotonic() + (LIMIT_S if point else delay_s)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while (left_s := deadline - time.monotonic()) > 0 and select.select([pipe], [], [], left_s)[0]:
            if not (chunk := pipe.read(1 << 16)):
                break
            said += chunk
        there = not point or time.monotonic() < deadline  # or it never came by
        os.kill(pid, signal.SIGKILL)
        while chunk := pipe.read(1 << 16):
            said += chunk
    _, status = os.waitpid(pid, 0)
    lines = said.decode().splitlines() if said.endswith(b"\n") else said.decode().splitlines()[:-1]
    acknowledged = {}
    for line in lines:
        index, sequence = map(int, line.split())
        acknowledged[index] = max(sequence, acknowledged.get(index, 0))
    return acknowledged, os.WIFSIGNALED(status) and there


def chosen(rng, point, acknowledged):
    """Where the next child dies, and at which passing: a start passes some points before anything is acknowledged."""
    if point != "claim":
        return point, rng.randint(1 if acknowledged else 3, 14)
    return (point, rng.randint(1, len(acknowledged))) if acknowledged else ("commit", 40)  # something to be claimed


def campaign(path, kills, seed, *, num_sessions=8, point="", longest_s=0.25):
    """Kill `kills` times; what was found, whose `lost`, `wrong` and `missing` must be 0."""
    rng = random.Random(seed)
    found = {"kills": 0, "acknowledged": 0, "lost": 0, "wrong": 0, "missing": 0, "new_secrets": 0, "by_itself": 0}
    acknowledged, secret = {}, None
    for _ in range(kills):
        delay_s = rng.uniform(0.0, longest_s)
        told, killed = run_once(path, num_sessions, delay_s, *chosen(rng, point, acknowledged))
        found["kills"] += killed
        found["by_itself"] += not killed
        for index, sequence in told.items():
            acknowledged[index] = max(sequence, acknowledged.get(index, 0))
        store = SqliteStore(path) if isinstance(path, Path) else WholeStore(path)
        held = {key: value for key, value in by_key(store).items() if key in acknowledged}
        found["missing"] += len(set(acknowledged) - set(held))
        found["lost"] += sum(held[i].next_sequence - 1 < acknowledged[i] for i in held)
        found["wrong"] += sum(not model(index).holds(session) for index, session in held.items())
        found["new_secrets"] += secret not in {None, store.secret()}
        secret = store.secret()
        store.close()
    found["acknowledged"] = sum(acknowledged.values())
    if isinstance(path, Path):
        found["damaged_files"] = len(list(path.parent.glob(f"{path.name}.damaged-*")))
        found["store_bytes"] = path.stat().st_size
    return found


def by_key(store):
    """The lasting sessions of a store."""
    kept = [entry for entry in store.read() if b"key-" in entry.data]
    return sessions_of(type("Kept", (), {"read": lambda _: kept})())


def apart(store, *options, sabotage=""):
    """Run a campaign in a process without threads, which may fork, and which `sabotage` has broken; what was found."""
    script = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n{sabotage}\nimport kills\nkills.main()"
    command = [sys.executable, "-c", script, str(store), *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert (0, "") == (finished.returncode, finished.stderr)
    return json.loads(finished.stdout)


def main():
    """Run a campaign and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=lambda named: named if is_url(named) else Path(named))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--point", default="", choices=["", *crash_points.STORE, *crash_points.SHARED_STORE])
    options = parser.parse_args()
    sys.stdout.write(json.dumps(campaign(options.store, options.kills, options.seed, point=options.point)))


if __name__ == "__main__":
    main()
