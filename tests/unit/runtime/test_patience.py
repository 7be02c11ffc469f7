"""Jobs that may hang: given up, told, and never joined by a second one."""

import asyncio
import threading

import pytest

from ccm_runtime.errors import RolloutError
from ccm_runtime.patience import MAX_HANGING, Patience

LIMIT_S = 20.0


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


async def test_what_a_job_returns_or_raises_comes_back():
    patience = Patience(LIMIT_S)
    assert 7 == await patience.run("walker v1", "reading", lambda: 7)
    with pytest.raises(ZeroDivisionError):
        await patience.run("walker v1", "reading", lambda: 1 / 0)


async def test_a_job_that_hangs_keeps_no_process_from_ending_and_its_thread_ends_with_it(gate):
    patience, threads = Patience(0.01), []

    def hang():
        threads.append(threading.current_thread())
        assert gate.wait(LIMIT_S)

    with pytest.raises(RolloutError, match=r"^walker v1: reading has taken 0\.01 s, and is given up"):
        await patience.run("walker v1", "reading", hang)
    assert threads[0].daemon
    gate.set()
    await asyncio.to_thread(threads[0].join, LIMIT_S)
    assert not threads[0].is_alive()


def test_a_start_waits_as_long_for_a_job_and_no_longer(gate):
    patience, threads = Patience(LIMIT_S), []

    def hang():
        threads.append(threading.current_thread())
        assert gate.wait(LIMIT_S)

    assert 7 == patience.wait("walker v1", "reading", lambda: 7)
    with pytest.raises(ZeroDivisionError):
        patience.wait("walker v1", "reading", lambda: 1 / 0)
    patience.limit_s = 0.01
    with pytest.raises(RolloutError, match=r"^walker v1: reading has taken 0\.01 s, and is given up.*--load-limit-s"):
        patience.wait("walker v1", "reading", hang)
    with pytest.raises(RolloutError, match="walker v1: reading still hangs"):
        patience.wait("walker v1", "reading", hang)
    (thread,) = threads
    assert thread.daemon
    gate.set()
    thread.join(LIMIT_S)
    assert 0 == patience.num_hanging
    patience.limit_s = LIMIT_S
    assert 7 == patience.wait("walker v1", "reading", lambda: 7)


def test_what_a_job_raises_at_a_start_is_its_own_though_it_is_called_a_timeout():
    def time_out():
        raise TimeoutError("the disk")

    with pytest.raises(TimeoutError, match="the disk"):
        Patience(LIMIT_S).wait("walker v1", "reading", time_out)


async def test_no_more_jobs_hang_than_allowed_whatever_they_are_called(gate):
    patience = Patience(0.01)
    for number in range(MAX_HANGING):
        with pytest.raises(RolloutError, match="given up"):
            await patience.run(f"walker v{number}", "reading", lambda: gate.wait(LIMIT_S))
    began = []
    with pytest.raises(RolloutError, match=f"{MAX_HANGING} jobs hang already"):
        await patience.run("arm a", "reading", lambda: began.append(1))
    assert not began


async def test_while_a_job_hangs_no_other_one_is_begun_on_its_subject_and_the_same_is_told_each_time(gate):
    patience, began, told = Patience(0.01), [], set()
    with pytest.raises(RolloutError, match="given up"):
        await patience.run("walker v1", "reading", lambda: gate.wait(LIMIT_S))
    for _ in range(9):
        with pytest.raises(RolloutError) as error:
            await patience.run("walker v1", "warming up", lambda: began.append(1))
        told.add(str(error.value))
    (line,) = told
    assert line.startswith("walker v1: reading still hangs, for more than 0.01 s; see to the disk or the GPU")
    patience.limit_s = LIMIT_S
    assert 7 == await patience.run("walker v2", "reading", lambda: 7)
    assert not began


async def test_whoever_gave_a_job_up_is_told_when_it_comes_back_and_others_are_not(gate):
    patience, late = Patience(0.01), asyncio.Event()
    with pytest.raises(RolloutError):
        await patience.run("walker v1", "reading", lambda: gate.wait(LIMIT_S), late.set)
    assert not late.is_set()
    gate.set()
    async with asyncio.timeout(LIMIT_S):
        await late.wait()
    late.clear()
    patience.limit_s = LIMIT_S
    await patience.run("walker v1", "reading", lambda: None, late.set)
    assert not late.is_set()


async def test_a_job_whose_caller_has_left_counts_until_it_ends(gate):
    patience = Patience(LIMIT_S)
    began = threading.Event()

    def hang():
        began.set()
        assert gate.wait(LIMIT_S)

    asking = asyncio.create_task(patience.run("walker v1", "reading", hang))
    await asyncio.to_thread(began.wait, LIMIT_S)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(RolloutError, match="still hangs"):
        await patience.run("walker v1", "reading", hang)
