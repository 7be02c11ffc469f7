"""The thread beside the event loop: what is told, once, and when."""

import asyncio
import threading

import pytest

from ccm_runtime.errors import ServerBusyError
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


async def test_those_who_gave_up_on_a_thread_that_hangs_leave_a_bounded_number_of_jobs_behind(worker, monkeypatch):
    monkeypatch.setattr("ccm_runtime.worker.MAX_WAITING", 8)
    gate = threading.Event()
    worker.submit(lambda: gate.wait(LIMIT_S), lambda *_: None)
    calls = [asyncio.create_task(worker.run(lambda: 3)) for _ in range(20)]
    await asyncio.wait(calls, timeout=0.1)
    refused = [call for call in calls if call.done()]
    assert {ServerBusyError} == {type(call.exception()) for call in refused}
    assert 20 - len(refused) in {7, 8}  # the thread may have had no time yet to take its own job
    for call in set(calls) - set(refused):
        call.cancel()
    gate.set()
    async with asyncio.timeout(LIMIT_S):
        while worker._jobs.qsize():
            await asyncio.sleep(0)
    assert 3 == await worker.run(lambda: 3)
