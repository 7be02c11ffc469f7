"""What it takes to make a group of sessions durable, in a file and in a Redis on this machine, and to claim one.

    python benchmarks/stores.py --out benchmarks/results/serving/stores.json

The record is that of a session of the shipped agent after an episode. A round writes a group of each size to every
store, one after the other; a Redis is asked over TCP. Then the clients of a whole server come to another one at once.
Medians, with the lowest and highest round.
"""

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Literal

from provenance import how, keep

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from durable import AGENT, DIGEST, Model, record
from mid_session import adapter_of
from redis_server import WholeStore, redis_server, server_version

from ccm_runtime.commands.bench_results import spread
from ccm_runtime.config import ServerConfig
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.messages import SessionOptions
from ccm_runtime.session import SessionTable
from ccm_runtime.sqlite_store import SqliteStore
from ccm_runtime.store import Store
from ccm_runtime.testing import manifest_of

GROUPS = (1, 64)
CROWD = 1_000
SYNCS: tuple[Literal["normal", "full"], ...] = ("normal", "full")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--times", type=int, default=50, help="of each thing in a round")
    arguments = parser.parse_args()
    model = Model(0, adapter_of(embedded_bundle()))
    records = [record(model.session(6, f"session-{number}")) for number in range(max(GROUPS))]
    claimed = [f"claimed-{number}" for number in range(max(GROUPS))]
    found: dict[str, list[float]] = defaultdict(list)
    crowds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stores: dict[str, Store] = {f"file, {sync}": SqliteStore(folder / f"{sync}.db", sync) for sync in SYNCS}
        for sync in ("everysec", "always"):
            redis = stack.enter_context(redis_server(folder / sync, appendfsync=sync))
            crowds[f"redis, {sync}"] = [asyncio.run(take_over(redis.url)) for _ in range(arguments.rounds)]
            stores[f"redis, {sync}"] = WholeStore(redis.url)
            stores[f"redis, {sync}"].commit([record(model.session(6, name)) for name in claimed], [])
        for _ in range(arguments.rounds):
            for name, store in stores.items():
                for size in GROUPS:
                    took_us = timed(lambda s=store, n=size: s.commit(records[:n], []), arguments.times)
                    found[f"{name}: a group of {size}"].append(took_us)
                if isinstance(store, WholeStore):
                    for size in GROUPS:
                        for what, ask in (("look for", store.look), ("claim", store.claim)):
                            took_us = timed(lambda ask=ask, n=size: ask(claimed[:n]), arguments.times)
                            found[f"{name}: {what} {size}"].append(took_us)
        for store in stores.values():
            store.close()
    figures = {name: [round(figure) for figure in spread(values)] for name, values in found.items()}
    for name, figure in figures.items():
        print(f"{name:32}", figure)
    moved = {name: [round(figure, 2) for figure in spread(values)] for name, values in crowds.items()}
    print(f"{CROWD} sessions change servers, s:", moved)
    versions = {"sqlite": sqlite3.sqlite_version, "redis_server": server_version()}
    keep(
        arguments.out,
        {
            "made": how("redis"),
            **versions,
            "record_bytes": len(records[0].data),
            "us": figures,
            "crowd": CROWD,
            "crowd_s": moved,
        },
    )


async def take_over(url: str) -> float:
    """Seconds until a server holds all sessions of another one, whose clients come to it at once."""
    config = ServerConfig(store=url, max_sessions=2 * CROWD, log_level="error")
    served = ServedAgent(AGENT, manifest_of(AGENT), DIGEST)
    ours, theirs = (Hosting(served, SessionTable(2 * CROWD, 600.0), config) for _ in range(2))
    ours.recover()
    theirs.recover()
    options = (SessionOptions(seed=number, idempotency_key=f"key-{number}") for number in range(CROWD))
    opened = await asyncio.gather(*map(theirs.open, options))
    began_s = time.monotonic()
    await asyncio.gather(*(ours.fetch(one.session_id, one.token) for one in opened))
    took_s = time.monotonic() - began_s
    for one in opened:
        ours.close(one.session_id, one.token)
    await ours.leave()
    await theirs.leave()
    return took_s


def timed(what: Callable[[], object], times: int) -> float:
    """Median microseconds of doing something so often."""
    took_us = []
    for _ in range(times):
        began_ns = time.perf_counter_ns()
        what()
        took_us.append((time.perf_counter_ns() - began_ns) / 1_000)
    return median(took_us)


if __name__ == "__main__":
    main()
