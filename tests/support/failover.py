"""Kill or stop one of two servers on one Redis while its clients are in mid-session, at times with the Redis.

The clients have both addresses: they go on at the other server, and are compared with an unbroken run.
"""

import asyncio
import random
import signal

from mid_session import LIMIT_S, KilledServer, compared, played_under

from ccm_runtime.redis_store import PREFIX


class Pair:
    """Two servers on one Redis. What is ended is the one that clients are at, and is started again at once.

    Args:
        bundle: What they serve.
        redis: What they share; where it is killed too, that is just before the server, and it comes back before it.
        rng: Draws when and how.
    """

    def __init__(self, bundle, redis, rng, **flags):
        self._servers = [KilledServer(bundle, redis.url, **flags) for _ in range(2)]
        self._redis, self._rng = redis, rng
        self._turn = 0
        self.ends = dict.fromkeys(("kills", "kills_with_the_store", "stops"), 0)

    async def start(self):
        """Start both; an address that stands for them, the first one first."""
        for server in self._servers:
            await server.start()
        return "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in self._servers)

    async def strike(self, _):
        """End the one in use, in the next of the ways, and start it again; its clients are at the other meanwhile."""
        ended, how = self._servers[self._turn], min(self.ends, key=self.ends.get)
        self._turn = 1 - self._turn
        self.ends[how] += 1
        await asyncio.sleep(self._rng.uniform(0.0, 0.3))
        if how == "kills":
            await ended.kill()
        elif how == "kills_with_the_store":
            self._redis.kill()
            await ended.kill()
            self._redis.start()
        else:
            ended.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(ended.process.wait(), LIMIT_S) == 0
        await ended.start()

    async def end(self):
        """Kill both."""
        for server in self._servers:
            if server.process is not None and server.process.returncode is None:
                await server.kill()


async def campaign(bundle, redis, ends, seed, *, num_sessions=4, **flags):
    """End a server `ends` times under `num_sessions` sessions; the counts, whose `differing` must be 0."""
    pair = Pair(bundle, redis, random.Random(seed), **flags)
    try:
        answers, closed = await played_under(pair.strike, await pair.start(), ends, num_sessions)
    finally:
        await pair.end()
    client = redis.client()
    epochs = [int(client.hget(key, "epoch")) for key in client.scan_iter(f"{PREFIX}session:*")]
    return {**pair.ends, "taken_over": sum(epochs), **compared(bundle, answers, closed)}
