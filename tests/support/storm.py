"""Many clients that come all at once, stay, and come back all at once after their server has died.

    python tests/support/storm.py HOST:PORT --clients 1000

A process of clients, each with a connection of its own. For each line on standard input every client tells its server
an event, at the same time as all others; a line on standard output says how that went. At the end of the input all
close their sessions and leave.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack

from ccm_runtime import connection
from ccm_runtime.async_client import AsyncClient
from ccm_runtime.errors import CcmError

LIMIT_S = 60.0  # to be in, or back


class Storm:
    """Processes of clients of one server.

    Args:
        address: `HOST:PORT`.
        clients: How many of them each process has.
        flags: `--visit`: they do not stay.
    """

    def __init__(self, address, clients, *flags):
        command = [sys.executable, __file__, address, *flags, "--clients"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._processes = [subprocess.Popen([*command, str(num)], **pipes) for num in clients]

    def __enter__(self):
        for process in self._processes:
            assert "ready" == process.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.stdin.close()
        for process in self._processes:
            process.wait(2 * LIMIT_S)
            process.stdout.close()

    def blow(self, meanwhile=lambda: None):
        """Let every client tell an event; how many met what, and the seconds until the last was answered."""
        for process in self._processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        meanwhile()
        told = [json.loads(process.stdout.readline()) for process in self._processes]
        outcomes = sum((Counter(one["outcomes"]) for one in told), Counter())
        return dict(outcomes), max(one["seconds"] for one in told)


async def visit(client, index):
    """Come, tell an event and leave."""
    async with client, client.open_session(seed=index) as session:
        await session.begin_episode([0.0, 0.0])


def client_of(address):
    """A patient client, not connected yet."""
    return AsyncClient(address, timeout_s=LIMIT_S, connect_timeout_s=LIMIT_S)


async def clients(address, num, *, stay):
    """Be clients; see above."""
    # Or all channels of a process that go to one server would share a connection.
    connection._CHANNEL_OPTIONS += (("grpc.use_local_subchannel_pool", 1),)
    made = [client_of(address) for _ in range(num)]
    sessions = [None] * num
    async with AsyncExitStack() as stack:

        async def tell(index):
            try:
                if not stay:
                    await visit(client_of(address), index)
                elif sessions[index] is None:
                    await stack.enter_async_context(made[index])
                    sessions[index] = await stack.enter_async_context(made[index].open_session(seed=index))
                    await sessions[index].begin_episode([0.0, 0.0])
                else:
                    await sessions[index].act([0.0, 0.0], 0.0)
            except CcmError as error:
                return f"{type(error).__name__}: {error}"[:160]
            return "answered"

        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while await asyncio.to_thread(sys.stdin.readline):
            began_s = time.perf_counter()
            outcomes = Counter(await asyncio.gather(*map(tell, range(num))))
            seconds = time.perf_counter() - began_s
            sys.stdout.write(json.dumps({"outcomes": outcomes, "seconds": seconds}) + "\n")
            sys.stdout.flush()


def main():
    """Be a process of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--visit", action="store_true", help="close the session and the connection after each event")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(clients(options.address, options.clients, stay=not options.visit))


if __name__ == "__main__":
    main()
