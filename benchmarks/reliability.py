"""The full figures of what durable sessions promise; the tests run the same campaigns in short.

    python benchmarks/reliability.py --out benchmarks/results/reliability
    python benchmarks/reliability.py --out figures random_kills torn_files

Each campaign writes one file: what was done, how often, and what must be 0 or empty. It ends with 1 if anything is not.
The full disk and the folder that turns read-only are real file systems of a few megabytes, and need root to be mounted.
"""

import asyncio
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, cast

import grpc
from campaigns import Result, run_campaigns

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import failover as failovers
import kills
import lossy
import mid_session
import torn
from durable import ADAPTER, AGENT, DIGEST, event, model, sessions_of
from redis_server import redis_server, server_version

from ccm_runtime.config import ServerConfig
from ccm_runtime.crash_points import SHARED_STORE, STORE
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import StoreUnavailableError
from ccm_runtime.group_commit import FailurePolicy as Policy
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.messages import SessionOptions
from ccm_runtime.session import SessionTable
from ccm_runtime.sqlite_store import SqliteStore
from ccm_runtime.testing import manifest_of, serving
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

Trouble: TypeAlias = "Callable[[Path, Fleet], AbstractContextManager[None]]"
_NUM_SESSIONS = 64
_LIMIT_S = 60.0


def random_kills(folder: Path, seed: int) -> Result:
    """Kill the core 200 times at random: 4 stores that live through 40 kills each, and 40 that die at once."""
    runs = [kills.campaign(folder / f"{n}.db", 40, seed + n, longest_s=0.6) for n in range(4)]
    runs += [kills.campaign(folder / f"new-{n}.db", 1, seed + 100 + n, longest_s=0.08) for n in range(40)]
    return summed("kill -9 at a random time, then recovery", runs)


def crash_points(folder: Path, seed: int) -> Result:
    """Kill the core at every named point of the store."""
    runs = [kills.campaign(folder / f"{point}.db", 12, seed, point=point) for point in STORE]
    return {**summed("kill -9 at a named point, at its 1st to 14th passing", runs), "points": list(STORE)}


def shared_kills(folder: Path, seed: int) -> Result:
    """Kill the core at every named point of a shared store, and at random; each child takes the sessions over."""
    runs = []
    for number, point in enumerate(("", *SHARED_STORE)):
        with redis_server(folder / str(number)) as redis:
            runs.append(kills.campaign(redis.url, 40 if not point else 20, seed + number, point=point, longest_s=0.6))
    what = "kill -9 at a random time and at named points; the next server takes the sessions over from one Redis"
    return {
        **summed(what, runs),
        "points": list(SHARED_STORE),
        "redis_server": server_version(),
        "appendfsync": "always",
    }


def failover(folder: Path, seed: int) -> Result:
    """End one of two servers 60 times: killed, killed with its Redis, stopped; its clients go on at the other one."""
    with redis_server(folder / "redis") as redis:
        found = asyncio.run(failovers.campaign(embedded_bundle(), redis, 60, seed, **{"max-batch": 1, "drain-s": 2}))
    return {
        "what": "two ccm serve on one Redis, 4 sessions; the one in use ends, and is started again",
        **{name: found[name] for name in ("kills", "kills_with_the_store", "stops")},
        "sessions_taken_over": found["taken_over"],
        "answers_compared": found["answers"],
        "must_be_none": {name: found[name] for name in ("differing", "beliefs_differing")},
        "redis_server": server_version(),
        "appendfsync": "always",
    }


def summed(what: str, runs: list[Result]) -> Result:
    """Add campaigns of kills up."""
    names = ("lost", "wrong", "missing", "new_secrets", "by_itself", "damaged_files")
    total = {name: sum(run[name] for run in runs) for name in runs[0]}
    return {
        "what": what,
        "kills": total["kills"],
        "durable_events_acknowledged": total["acknowledged"],
        "must_be_none": {name: total[name] for name in names if name in total},
    }


def mid_session_kills(folder: Path, seed: int) -> Result:
    """Kill `ccm serve` 100 times: 4 servers side by side, each under 4 stochastic sessions of the shipped agent."""

    async def run() -> list[Result]:
        # One session a run of a network: in a batch, the encoder's last bit may depend on who else is in it.
        alone = {"max-batch": 1}
        campaigns = [
            mid_session.campaign(embedded_bundle(), folder / f"{n}.db", kills=25, seed=seed + n, **alone)
            for n in range(4)
        ]
        return await asyncio.gather(*campaigns)

    runs = asyncio.run(run())
    return {
        "what": "kill -9 of ccm serve in mid-session and a restart; the clients resume and replay",
        "kills": sum(run["kills"] for run in runs),
        "answers_compared": sum(run["answers"] for run in runs),
        "must_be_none": {name: sum(run[name] for run in runs) for name in ("differing", "beliefs_differing")},
    }


def exactly_once(folder: Path, seed: int) -> Result:
    """Tell 50,000 events over a network that loses, doubles, delays and reorders a fifth each."""

    async def run() -> Result:
        config = ServerConfig(port=0, log_level="error", store=folder / "s.db")
        async with serving(AGENT, config) as address, grpc.aio.insecure_channel(address) as channel:
            return await lossy.campaign(AdaptationStub(channel), ADAPTER, 50_000, seed)

    found = asyncio.run(run())
    return {
        "what": "20 % lost on the way there, 20 % on the way back, 20 % doubled, 20 % held back and told late",
        "events": found["events"],
        "calls": found["calls"],
        "refused_with_the_expected_number": found["refused"],
        "must_be_none": {"violations": found["violations"]},
    }


def torn_files(folder: Path, seed: int) -> Result:
    """Cut the log, flip bytes of the log, and flip bytes of the file."""
    runs = [torn.campaign(folder / str(n), 200, seed + n) for n in range(2)]
    names = ("cut", "flipped_in_log", "flipped_in_file", "sessions_given_up", "of_sessions")
    total = {name: sum(run[name] for run in runs) for name in names}
    return {
        "what": "a store of known history, damaged and opened again",
        **total,
        "must_be_none": {"violations": [line for run in runs for line in run["violations"]]},
    }


def failing_disk(folder: Path, seed: int) -> Result:  # noqa: ARG001 (nothing is random)
    """Fill the disk, turn it read-only, and take the descriptors away, under both policies."""
    found = [
        asyncio.run(fails_and_mends(folder / f"{policy}-{number}", policy, trouble))
        for policy in POLICIES
        for number, trouble in enumerate(TROUBLES)
    ]
    return {
        "what": "64 sessions are stepped before, while and after the disk fails",
        "cases": found,
        "must_be_none": {"violations": [line for case in found for line in case.pop("violations")]},
    }


class Fleet:
    """Sessions on one core, stepped in turn."""

    def __init__(self, config: ServerConfig) -> None:
        self._hosting = Hosting(ServedAgent(AGENT, manifest_of(AGENT), DIGEST), SessionTable(1000, 600.0), config)
        self._hosting.recover()
        self.group_commit = cast("GroupCommit", self._hosting.group_commit)
        self.store = cast("SqliteStore", self._hosting._store)
        self.nexts = [1] * _NUM_SESSIONS

    async def open(self) -> None:
        """Open the sessions."""
        options = [SessionOptions(seed=i, stochastic=True, idempotency_key=f"key-{i}") for i in range(_NUM_SESSIONS)]
        self._sessions = [await self._hosting.open(one) for one in options]

    async def step(self, times: int) -> int:
        """Step every session so often; how many events were refused."""
        refused = 0
        for _ in range(times):
            for index, opened in enumerate(self._sessions):
                number = self.nexts[index]
                try:
                    await self._hosting.step(opened.session_id, number, event(index, number))
                    self.nexts[index] += 1
                except StoreUnavailableError:
                    refused += 1
            await asyncio.sleep(0.002)
        return refused

    async def step_until(self, *, well: bool) -> float:
        """Step until the store is well or is not, for a while at most; how long it took."""
        began_s = time.monotonic()
        while self.group_commit.well != well and time.monotonic() - began_s < _LIMIT_S:
            await self.step(1)
        return time.monotonic() - began_s

    def give_up(self) -> None:
        """Let the store look at its file anew."""
        self.group_commit._worker.submit(self.store.close, lambda _, error: None)  # noqa: ARG005 (what is done is done)

    async def leave(self) -> None:
        """Let the store go."""
        await self._hosting.leave()


async def fails_and_mends(folder: Path, policy: Policy, trouble: Trouble) -> Result:
    """Step sessions through one trouble."""
    folder.mkdir()
    with small_disk(folder) as disk:
        fleet = Fleet(ServerConfig(store=disk / "s.db", store_failure=policy, store_commit_ms=5.0, log_level="error"))
        await fleet.open()
        await fleet.step(20)
        with trouble(disk, fleet):
            await fleet.step_until(well=False)
            noticed, before = not fleet.group_commit.well, list(fleet.nexts)
            refused = await fleet.step(20)
            stayed = before == fleet.nexts
        well_after_s = await fleet.step_until(well=True)
        mended = fleet.group_commit.well
        await fleet.step(5)
        await fleet.leave()
        holds = {
            "the failure was noticed": noticed,
            "the policy was followed": (refused == 20 * _NUM_SESSIONS and stayed)
            if policy == "refuse"
            else not refused,
            "the store was well again": mended,
            "the store holds what was answered": holds_all(disk, fleet.nexts),
            "no file was damaged": not list(disk.glob("*.damaged-*")),
        }
    return {
        "policy": policy,
        "trouble": str(trouble.__doc__),
        "events_refused_meanwhile": refused,
        "failed_groups": fleet.group_commit.counts.num_failures,
        "well_again_after_s": round(well_after_s, 2),
        "violations": [f"{policy}, {trouble.__doc__} Not so: {law}" for law, held in holds.items() if not held],
    }


def holds_all(disk: Path, nexts: list[int]) -> bool:
    """Whether a store holds every session as the model has it, after its last answer."""
    store = SqliteStore(disk / "s.db")
    held = sessions_of(store)
    store.close()
    right = all(model(index).holds(session) for index, session in held.items())
    return right and [held[index].next_sequence for index in range(len(nexts))] == nexts


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 8 MB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "ccm", str(folder)], check=True)  # noqa: S603, S607
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607


@contextmanager
def full(disk: Path, _: Fleet) -> Iterator[None]:
    """The disk is full."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    yield
    ballast.unlink()


@contextmanager
def read_only(disk: Path, fleet: Fleet) -> Iterator[None]:
    """The file system turns read-only."""

    def remounted(how: str) -> bool:
        command = ["mount", "-o", f"remount,{how}", str(disk)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603

    until_s = time.monotonic() + _LIMIT_S
    while not remounted("ro"):  # the kernel refuses while a file is open for writing; a failing disk does not ask
        fleet.give_up()
        if time.monotonic() > until_s:
            raise TimeoutError("the file system stayed writable")
    yield
    if not remounted("rw"):
        raise OSError("the file system stayed read-only")


@contextmanager
def no_descriptors(_: Path, fleet: Fleet) -> Iterator[None]:
    """No file descriptor is free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    fleet.give_up()  # or it would do with those that it has
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


TROUBLES: tuple[Trouble, ...] = (full, read_only, no_descriptors)
POLICIES: tuple[Policy, ...] = ("degrade", "refuse")
CAMPAIGNS: dict[str, Callable[[Path, int], Result]] = {
    "random_kills": random_kills,
    "crash_points": crash_points,
    "mid_session_kills": mid_session_kills,
    "exactly_once": exactly_once,
    "torn_files": torn_files,
    "failing_disk": failing_disk,
    "shared_kills": shared_kills,
    "failover": failover,
}


def _in_a_folder(campaign: Callable[[Path, int], Result]) -> Callable[[int], Result]:
    """The campaign in a folder of its own, which is removed after it."""

    def run(seed: int) -> Result:
        with tempfile.TemporaryDirectory() as folder:
            return campaign(Path(folder), seed)

    return run


if __name__ == "__main__":
    in_folders = {name: _in_a_folder(campaign) for name, campaign in CAMPAIGNS.items()}
    run_campaigns(__doc__, in_folders, "grpcio", "numpy", "redis", sqlite=sqlite3.sqlite_version)
