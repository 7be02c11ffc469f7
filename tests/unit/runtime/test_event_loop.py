"""What a serving process asks of its system, and how often gRPC wakes its loop."""

import asyncio
import socket
import subprocess
import sys
from functools import partial

import pytest

from ccm_runtime import event_loop

DESCRIPTORS = """
import asyncio, resource
from ccm_runtime.event_loop import run
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
run(asyncio.sleep(0))
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
# gRPC takes the first loop of a process, so this is a process of its own.
WITH_GRPC = """
import asyncio, types, grpc
from ccm_runtime import event_loop

class Loop(asyncio.SelectorEventLoop):
    def add_reader(self, fd, callback, *args):
        print(callback.__name__)
        super().add_reader(fd, callback, *args)

async def main():
    grpc.aio.server()

event_loop.import_module = lambda name: types.SimpleNamespace(Loop=Loop)
event_loop.run(main())
"""


class Poller:
    """Reads as gRPC's does: one byte, whatever waits."""

    def __init__(self, reader, events):
        self.reader, self.events, self.wakes = reader, events, []

    def _handle_events(self, _):
        self.reader.recv(1)
        self.wakes.append(self.events.copy())
        self.events.clear()

    def read_one(self, _):
        self.wakes.append(self.reader.recv(1))


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request, monkeypatch):
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = event_loop.new_loop()
    assert request.param in type(loop).__mro__[2].__module__
    yield loop
    loop.close()


def told(loop, callback_of, *writes):
    """Return what a poller met, each of whose readers' wakes is followed by the next write."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        poller = Poller(reader, [])
        loop.add_reader(reader, partial(callback_of(poller), loop))
        for events in writes:
            poller.events.extend(events)
            writer.send(events)
            loop.run_until_complete(turns())
        loop.remove_reader(reader)
        return poller.wakes


async def turns():
    for _ in range(8):
        await asyncio.sleep(0)


def test_grpc_is_woken_once_for_all_events_that_wait_and_misses_none(loop):
    wakes = told(loop, lambda poller: poller._handle_events, b"12345", b"6", b"78")
    assert [list(b"12345"), list(b"6"), list(b"78")] == wakes


def test_whatever_else_is_read_is_left_whole(loop):
    assert [b"1", b"2", b"3", b"4"] == told(loop, lambda poller: poller.read_one, b"123", b"4")


def test_grpc_is_known_by_how_it_reads():
    assert "woken" == output_of(WITH_GRPC)


def test_a_server_has_all_the_descriptors_that_it_may_have():
    assert "(256, 256)" == output_of(DESCRIPTORS)


def output_of(script):
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return finished.stdout.strip()
