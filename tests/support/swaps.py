"""Kill a server's core while it changes an agent's version, again and again, and look at what is left.

    python tests/support/swaps.py FOLDER --point swap.renamed --kills 3

A child goes on with durable sessions, half of them on either version, and changes the version every few turns. The
parent kills it, looks at which version is current, and holds every session against the model of its own version.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
from functools import cache
from pathlib import Path

import kills
from durable import HORIZON, Model, event
from rollouts import publish

from ccm_runtime import crash_points
from ccm_runtime.adapt import Adapter
from ccm_runtime.bundle import load_bundle
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import CcmError
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.library import Library
from ccm_runtime.manifest import Adaptation
from ccm_runtime.messages import SessionOptions
from ccm_runtime.patience import Patience
from ccm_runtime.records import from_bytes
from ccm_runtime.releases import Releases, served_from
from ccm_runtime.resumption import Resumption
from ccm_runtime.session import SessionTable
from ccm_runtime.sqlite_store import SqliteStore
from ccm_runtime.testing import ScriptedPolicy

AGENT, NUM_SESSIONS = "walker", 6
POLICIES = {
    name: ScriptedPolicy(Adaptation(explore_episodes=explore, episodes=4, horizon=HORIZON, latent="sample"))
    for name, explore in (("a", 1), ("b", 3))
}


@cache
def model(index, version):
    """What session `index` must be with a version."""
    return Model(index, Adapter.of(POLICIES[version]))


def read(path):
    """A version whose bundle is checked and whose policy is the script: a fork need not load onnxruntime."""
    bundle = load_bundle(path)
    return ServedAgent(POLICIES[path.name], bundle.manifest, bundle.digest)


async def live(folder, num_sessions, acknowledge):
    """Step sessions and change the version until killed."""
    config = ServerConfig(store=folder / "s.db", store_commit_ms=1.0, log_level="error", max_batch=2)
    library = Library(folder / "agents")
    agents = served_from(library, read, Patience(config.load_limit_s))
    hosting = Hosting(agents, SessionTable(1000, 60.0), config)
    releases = Releases(hosting, library, read, config.max_batch)
    hosting.recover(Resumption(hosting, library, releases.prepared).recall)
    turns, nexts, opened = itertools.cycle("ba" if library.current(AGENT) == "a" else "ab"), {}, {}
    for index in range(num_sessions):
        if index == num_sessions // 2:
            await releases.load(AGENT, next(turns))
        options = SessionOptions(seed=index, stochastic=True, idempotency_key=f"key-{index}")
        opened[index] = await hosting.open(options)
        nexts[index] = opened[index].next_sequence
        acknowledge(index, nexts[index] - 1)
    for turn in itertools.count(1):
        for index, session in opened.items():
            answer = await hosting.step(session.session_id, nexts[index], event(index, nexts[index]))
            nexts[index] += 1
            acknowledge(index, answer.durable_sequence)
        if turn % 5 == 0:
            await releases.load(AGENT, next(turns))
        await asyncio.sleep(0.001)


def campaign(folder, num_kills, seed, point):
    """Kill `num_kills` times at a point; what was found, of which only kills and counts may be other than 0."""
    rng = random.Random(seed)
    for version, policy in POLICIES.items():
        publish(folder / "agents", AGENT, version, policy)
    (folder / "agents" / AGENT / "current").symlink_to("a")
    library = Library(folder / "agents")
    digests = {library.digest(AGENT, version): version for version in POLICIES}
    names = ("kills", "acknowledged", "switched", "lost", "wrong", "missing", "no_current", "by_itself", "litter")
    found, acknowledged, current = dict.fromkeys(names, 0), {}, "a"
    for _ in range(num_kills):
        told, killed = kills.run_once(folder, NUM_SESSIONS, 0.0, point, rng.randint(1, 4), live=live)
        found["kills"] += killed
        found["by_itself"] += not killed
        for index, sequence in told.items():
            acknowledged[index] = max(sequence, acknowledged.get(index, 0))
        try:
            before, current = current, library.current(AGENT)
            found["switched"] += before != current
        except CcmError:
            found["no_current"] += 1
        there = {path.name for path in (folder / "agents" / AGENT).iterdir()}
        found["litter"] += len(there - {*POLICIES, "current", ".current", "rollout.json", ".rollout.json.partial"})
        look(folder, digests, acknowledged, found)
    found["acknowledged"] = sum(acknowledged.values())
    return found


def look(folder, digests, acknowledged, found):
    """Hold every session of the store against the model of its own version."""
    store = SqliteStore(folder / "s.db")
    held = [from_bytes(entry.data).session for entry in store.read()]
    store.close()
    by_index = {int(session.idempotency_key.removeprefix("key-")): session for session in held}
    found["missing"] += len(set(acknowledged) - set(by_index))
    for index, session in by_index.items():
        found["lost"] += session.next_sequence - 1 < acknowledged.get(index, 0)
        found["wrong"] += not model(index, digests[session.bundle_digest]).holds(session)


def main():
    """Run a campaign and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--point", default=crash_points.SWAP[0], choices=crash_points.SWAP)
    options = parser.parse_args()
    sys.stdout.write(json.dumps(campaign(options.folder, options.kills, options.seed, options.point)))


if __name__ == "__main__":
    main()
