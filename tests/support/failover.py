"""Kill one of two servers on one Redis while its clients are in mid-session, and at times the Redis too.

The clients have both addresses: they go on at the other server, and are compared with an unbroken run.
"""

import asyncio
import random

from mid_session import KilledServer, compared, played_under

from ccm_runtime.redis_store import PREFIX


class Pair:
    """Two servers on one Redis. What is killed is the one that clients are at, and is started again at once.

    Args:
        bundle: What they serve.
        redis: What they share.
        store_kills: How often, of 1, the Redis is killed just before the server, and comes back before it.
        rng: Draws when.
    """

    def __init__(self, bundle, redis, store_kills, rng, **flags):
        self._servers = [KilledServer(bundle, redis.url, **flags) for _ in range(2)]
        self._redis, self._store_kills, self._rng = redis, store_kills, rng
        self._turn = 0
        self.num_store_kills = 0

    async def start(self):
        """Start both; an address that stands for them, the first one first."""
        for server in self._servers:
            await server.start()
        return "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in self._servers)

    async def kill(self, _):
        """Kill the one in use, and start it again; the clients are at the other one meanwhile."""
        await asyncio.sleep(self._rng.uniform(0.0, 0.3))
        killed = self._servers[self._turn]
        self._turn = 1 - self._turn
        if self._rng.random() >= self._store_kills:
            await killed.kill()
        else:
            self.num_store_kills += 1
            self._redis.kill()
            await killed.kill()
            self._redis.start()
        await killed.start()

    async def end(self):
        """Kill both."""
        for server in self._servers:
            if server.process is not None and server.process.returncode is None:
                await server.kill()


async def campaign(bundle, redis, kills, seed, *, num_sessions=4, store_kills=0.3, **flags):
    """Kill `kills` times under `num_sessions` sessions; the counts, whose `differing` must be 0."""
    rng = random.Random(seed)
    pair = Pair(bundle, redis, store_kills, rng, **flags)
    try:
        target = await pair.start()
        answers, closed = await played_under(pair.kill, target, kills, num_sessions)
    finally:
        await pair.end()
    client = redis.client()
    epochs = [int(client.hget(key, "epoch")) for key in client.scan_iter(f"{PREFIX}session:*")]
    return {
        "kills": kills,
        "store_kills": pair.num_store_kills,
        "taken_over": sum(epochs),
        **compared(bundle, answers, closed),
    }
