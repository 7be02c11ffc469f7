"""The thread beside the event loop: what is told, once, and when."""

import asyncio
import threading

import pytest

from ccm_runtime.presence import Presence
from ccm_runtime.worker import Worker

LIMIT_S = 20.0


@pytest.fixture
def worker():
    made = Worker("test")
    yield made
    made.stop()


@pytest.fixture
def told():
    return []


async def until(told):
    """Wait until something was told, and as long again for what should not be."""
    async with asyncio.timeout(LIMIT_S):
        while not told:
            await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_what_is_done_while_the_loop_waits_has_been_told_at_once(worker, told):
    worker.submit(lambda: 3, lambda *outcome: told.append(outcome), patience_s=LIMIT_S)
    assert [(3, None)] == told


async def test_an_error_is_told_as_a_result_is(worker, told):
    fault = RuntimeError("out of memory")

    def fail():
        raise fault

    worker.submit(fail, lambda *outcome: told.append(outcome), patience_s=LIMIT_S)
    assert [(None, fault)] == told


@pytest.mark.parametrize("patience_s", [0.0, 0.001])
async def test_the_loop_goes_on_without_what_takes_longer_and_is_told_once(worker, told, patience_s):
    gate = threading.Event()
    worker.submit(lambda: gate.wait(LIMIT_S), lambda *outcome: told.append(outcome), patience_s=patience_s)
    assert [] == told
    gate.set()
    await until(told)
    assert [(True, None)] == told


@pytest.mark.parametrize(("looks", "busy_s"), [((5.0, 5.0, 5.0), 15.0), ((30.0,), 0.0), ((5.0, 30.0, 1.0), 6.0)])
async def test_a_job_that_was_frozen_with_its_process_was_not_busy_meanwhile(told, looks, busy_s):
    now, gate = [100.0], threading.Event()
    worker = Worker("test", Presence(10.0, lambda: now[0]))
    try:
        assert 0.0 == worker.busy_s
        began = threading.Event()
        worker.submit(lambda: (began.set(), gate.wait(LIMIT_S)), lambda *outcome: told.append(outcome))
        assert began.wait(LIMIT_S)
        for seconds in looks:
            now[0] += seconds
            found = worker.busy_s
        assert busy_s == found
    finally:
        gate.set()
        worker.stop()
    await until(told)
