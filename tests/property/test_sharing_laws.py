"""Whatever the servers of a shared store do, in whatever order: one of them holds a session, and nothing is lost."""

import asyncio
from contextlib import asynccontextmanager
from itertools import count

from durable import AGENT, DIGEST, event, image, model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import TimeoutError as SilentError

from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import SessionUnknownError, StoreUnavailableError
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.messages import SessionOptions
from ccm_runtime.redis_store import RedisStore
from ccm_runtime.session import SessionTable
from ccm_runtime.store import Record
from ccm_runtime.testing import manifest_of

NUM_SERVERS = 2
SERVERS = st.integers(0, NUM_SERVERS - 1)
laws = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
names = count()


class Server:
    """A server of a shared store, as the store sees it: a name, and of one session what it believes to hold."""

    def __init__(self, url):
        self.store = RedisStore(url)
        self._send = self.store._commit
        self.held = None  # epoch and number
        self.on_their_way = []

    def open(self, name):
        """Begin a session, if there is none; whether there was none."""
        seen = self.store.look([name]).get(name)
        if seen is not None and seen.data:
            return False
        self.held = (0 if seen is None else seen.epoch + 1, 0)
        return True

    def claim(self, name):
        claimed = self.store.claim([name]).get(name)
        self.held = None if claimed is None else (claimed.epoch, int(claimed.data))
        return claimed

    def write(self, name, *, late=False, gone=False):
        """Go one further and write it; whether that was acknowledged. A late one fails, and comes when it comes."""
        if self.held is None:
            return False
        epoch, number = self.held
        self.held = epoch, number + 1
        record = Record(name, b"" if gone else str(number + 1).encode(), epoch)
        self.store._commit = self._keep_back if late else self._send
        try:
            lost = self.store.commit_held([], [record]) if gone else self.store.commit_held([record], [])
        except StoreUnavailableError:
            return False
        if lost or gone:
            self.held = None
        return not lost

    def deliver(self):
        """Let what was late come now."""
        for keys, words in self.on_their_way:
            self._send(keys, words)
        self.on_their_way.clear()

    def _keep_back(self, keys, words):
        self.on_their_way.append((keys, words))
        raise SilentError("no answer")


WHAT_A_SERVER_DOES = st.sampled_from(["open", "write", "write", "claim", "late", "deliver", "close"])


@laws
@given(deeds=st.lists(st.tuples(SERVERS, WHAT_A_SERVER_DOES), min_size=20, max_size=60))
def test_only_the_last_server_to_claim_writes_and_nothing_acknowledged_is_lost(redis, deeds):
    servers = [Server(redis.url) for _ in range(NUM_SERVERS)]
    name = f"fenced-{next(names)}"
    holder, acknowledged, closed = None, 0, False
    for number, deed in deeds:
        server = servers[number]
        if deed == "open" and server.open(name):
            holder, closed = None, False  # until the first of those who open it writes
        elif deed == "claim" and server.claim(name) is not None:
            assert not closed
            assert acknowledged <= server.held[1]
            holder = server
        elif deed in {"write", "close"} and server.held is not None:
            told = server.held[1] + 1
            if server.write(name, gone=deed == "close"):
                assert holder in {None, server}
                holder, closed = server, deed == "close"
                acknowledged = 0 if closed else told
            else:
                assert holder is not server
        elif deed == "late":
            server.write(name, late=True)
        elif deed == "deliver":
            server.deliver()
        seen = servers[0].store.look([name]).get(name)
        stored = 0 if seen is None or not seen.data else int(seen.data)
        assert acknowledged <= stored
        assert not (closed and stored)
    for server in servers:
        server.store.close()


class Robot:
    """A client that goes from server to server with its token, and checks all that it is answered."""

    def __init__(self, index, opened):
        self.index, self.name, self.token = index, opened.session_id, opened.token
        self.told, self.durable = 0, 0

    async def resume(self, hosting):
        """Attach, and tell again what that server lacks."""
        await hosting.fetch(self.name, self.token)
        opened = hosting.resume(self.name, self.token)
        assert self.durable < opened.next_sequence <= self.told + 1
        for sequence in range(opened.next_sequence, self.told + 1):
            await self._tell(hosting, sequence)

    async def step(self, hosting):
        """Tell the next event, after resuming where the session has gone."""
        try:
            await self._tell(hosting, self.told + 1)
        except SessionUnknownError:
            await self.resume(hosting)
            await self._tell(hosting, self.told + 1)
        self.told += 1

    async def _tell(self, hosting, sequence):
        answer = await hosting.step(self.name, sequence, event(self.index, sequence))
        assert image(model(self.index).after(sequence)[1]) == image(answer.reaction)
        self.durable = max(self.durable, answer.durable_sequence)


@asynccontextmanager
async def replicas(url, **options):
    """Servers on one store, that write when they are told to."""
    config = ServerConfig(**{"store": url, "store_commit_ms": 60_000, "log_level": "error", **options})
    served = ServedAgent(AGENT, manifest_of(AGENT), DIGEST)
    hosts = [Hosting(served, SessionTable(100, 600.0), config) for _ in range(NUM_SERVERS)]
    try:
        for hosting in hosts:
            hosting.recover()
        yield hosts
    finally:
        for hosting in hosts:
            await hosting.leave()


WHAT_A_ROBOT_SEES = st.sampled_from(["step", "step", "step", "move", "flush", "idle"])


@laws
@given(deeds=st.lists(st.tuples(SERVERS, WHAT_A_ROBOT_SEES), min_size=20, max_size=40), index=st.integers(0, 5))
def test_a_client_that_goes_from_server_to_server_is_answered_as_if_there_were_one(redis, deeds, index):
    asyncio.run(roams(redis.url, deeds, index))


async def roams(url, deeds, index):
    options = SessionOptions(seed=index, stochastic=True, idempotency_key=f"key-{index}-{next(names)}")
    async with replicas(url) as hosts:
        at = hosts[0]
        robot = Robot(index, await at.open(options))
        for number, deed in deeds:
            other = hosts[number]
            if deed == "step":
                await robot.step(at)
            elif deed == "move":
                at = other
                await robot.resume(at)
            elif deed == "flush":
                await other.group_commit.flush()
            elif other is not at:  # whatever it still holds has been idle for too long
                limit_s, other.table.idle_limit_s = other.table.idle_limit_s, -1.0
                other.table.expire()
                other.table.idle_limit_s = limit_s
        await robot.resume(at)
        closed = at.close(robot.name, robot.token)
        assert image(model(index).after(robot.told)[0].belief) == image(closed.context.belief)
