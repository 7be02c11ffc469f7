"""Nothing is called durable before it is written, and no failure of the store is taken for a success."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from durable import model, sessions_of

from ccm_runtime.errors import StoreUnavailableError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.store import MemoryStore


class Disk(MemoryStore):
    """A store that fails while `broken`, waits while held, and counts its groups."""

    def __init__(self):
        super().__init__()
        self.broken = False
        self.groups = []
        self.goes_on = threading.Event()
        self.goes_on.set()

    def commit(self, saved, removed):
        saved, removed = list(saved), list(removed)
        self.groups.append((len(saved), len(removed)))
        assert self.goes_on.wait(10)
        if self.broken:
            raise StoreUnavailableError("no space left")
        super().commit(saved, removed)


@asynccontextmanager
async def committing(live=(), **options):
    disk = Disk()
    writer = GroupCommit(disk, **{"interval_s": 60.0, **options})  # only a flush writes, unless a test says so
    writer.watch(lambda: live, ())
    yield writer, disk
    disk.broken = False
    await writer.close()


async def test_nothing_is_durable_before_it_is_written_and_all_of_it_after():
    async with committing() as (writer, disk):
        writer.changed(model(0).session(4))
        assert [0, 0] == [writer.durable_sequence("session-0"), len(disk.groups)]
        await writer.flush()
        assert 4 == writer.durable_sequence("session-0")
        assert model(0).holds(sessions_of(disk)[0])


async def test_a_group_holds_the_last_value_of_each_session():
    async with committing() as (writer, disk):
        for sequence in range(1, 30):
            for index in range(5):
                writer.changed(model(index).session(sequence))
        await writer.flush()
        assert [(5, 0)] == disk.groups
        assert [29] * 5 == [session.next_sequence - 1 for session in sessions_of(disk).values()]


async def test_what_changes_is_written_without_being_asked_for():
    async with committing(interval_s=0.0) as (writer, _):
        writer.changed(model(0).session(1))
        async with asyncio.timeout(10):
            while writer.durable_sequence("session-0") != 1:
                await asyncio.sleep(0)


async def test_flushes_that_come_together_share_a_group():
    async with committing() as (writer, disk):
        writer.changed(model(0).session(1))
        first = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        waiting = []
        for index in range(1, 9):
            writer.changed(model(index).session(1))
            waiting.append(asyncio.create_task(writer.flush()))
        await asyncio.gather(first, *waiting)
        assert [(1, 0), (8, 0)] == disk.groups


async def test_a_flush_with_nothing_to_write_returns():
    async with committing() as (writer, disk):
        await writer.flush()
        assert [] == disk.groups


async def test_a_session_that_is_gone_leaves_the_store():
    async with committing() as (writer, disk):
        writer.changed(model(0).session(1))
        await writer.flush()
        writer.removed(model(0).session(3))
        await writer.flush()
        assert {} == sessions_of(disk)
        assert 0 == writer.durable_sequence("session-0")


async def test_closing_writes_what_is_left():
    async with committing() as (writer, disk):
        writer.changed(model(0).session(7))
    assert [7] == [session.next_sequence - 1 for session in sessions_of(disk).values()]


async def test_a_group_that_failed_is_never_taken_for_written():
    told = []
    async with committing() as (writer, disk):
        writer.on_change = lambda well, why: told.append((well, why))
        writer.changed(model(0).session(3))
        disk.broken = True
        with pytest.raises(StoreUnavailableError, match="no space left"):
            await writer.flush()
        assert [0, False, 1] == [writer.durable_sequence("session-0"), writer.well, writer.counts.num_failures]
        assert [(False, "no space left")] == told


async def test_after_a_failure_every_live_session_is_written_again_and_the_store_is_well():
    told, live = [], [model(index).session(6) for index in range(4)]
    async with committing(live) as (writer, disk):
        writer.on_change = lambda well, _: told.append(well)
        for session in live[:3]:
            writer.changed(session)
        await writer.flush()
        disk._records.clear()  # the disk had not kept what it said it had
        disk.broken = True
        writer.changed(live[3])
        with pytest.raises(StoreUnavailableError):
            await writer.flush()
        disk.broken = False
        async with asyncio.timeout(10):
            while not writer.well:
                await asyncio.sleep(0.01)  # the writer itself tries again, after its first wait
        assert set(range(4)) == set(sessions_of(disk))
        assert [False, True] == told
        assert [6] * 4 == [writer.durable_sequence(session.session_id) for session in live]


async def test_a_removal_is_not_forgotten_over_a_failure():
    async with committing() as (writer, disk):
        writer.changed(model(0).session(3))
        await writer.flush()
        disk.broken = True
        writer.removed(model(0).session(3))
        with pytest.raises(StoreUnavailableError):
            await writer.flush()
    assert {} == sessions_of(disk)


async def test_nothing_of_a_session_that_is_gone_makes_another_one_of_its_name_durable():
    """Servers that share sessions name one anew by its client's key."""
    async with committing() as (writer, disk):
        writer.changed(model(0).session(5))
        await writer.flush()
        writer.removed(model(0).session(5))
        disk.broken = True
        writer.changed(model(0).session(1))
        with pytest.raises(StoreUnavailableError):
            await writer.flush()
        assert 0 == writer.durable_sequence("session-0")


@pytest.mark.parametrize(("before", "now"), [(5, 1), (1, 5)])
async def test_a_group_that_is_on_its_way_makes_no_later_session_of_a_name_durable(before, now):
    async with committing() as (writer, disk):
        writer.changed(model(0).session(before))
        disk.goes_on.clear()
        flushed = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        writer.removed(model(0).session(before))
        writer.changed(model(0).session(now))
        disk.goes_on.set()
        await flushed
        assert 0 == writer.durable_sequence("session-0")
        await writer.flush()
        assert now == writer.durable_sequence("session-0")


async def test_a_store_that_fails_for_long_leaves_a_bounded_number_to_remove(monkeypatch):
    monkeypatch.setattr("ccm_runtime.group_commit._MAX_GONE", 10)
    live = [model(index).session(1) for index in range(1_000, 1_015)]
    async with committing(live) as (writer, disk):
        disk.broken = True
        for index in range(200):
            writer.changed(model(index).session(1))
            writer.removed(model(index).session(1))
            assert writer.num_unsaved <= 15 + 20
            if index % 50 == 0:
                with pytest.raises(StoreUnavailableError):
                    await writer.flush()
                writer._turn(well=True, why="")  # or a flush would not try
        assert all(writer.removes(f"session-{index}") for index in range(190, 200))
    assert set(range(1_000, 1_015)) == set(sessions_of(disk))


@pytest.mark.parametrize(("policy", "goes_on"), [("degrade", True), ("refuse", False)])
async def test_the_policy_says_whether_sessions_go_on_without_a_store(policy, goes_on):
    async with committing(on_failure=policy) as (writer, disk):
        writer.check()
        disk.broken = True
        writer.changed(model(0).session(1))
        with pytest.raises(StoreUnavailableError):
            await writer.flush()
        if goes_on:
            writer.check()
        else:
            with pytest.raises(StoreUnavailableError, match="durable sessions only"):
                writer.check()


async def test_a_disk_that_hangs_is_a_failing_one_until_it_goes_on():
    told = []
    async with committing() as (writer, disk):
        writer.on_change = lambda well, _: told.append(well)
        writer.changed(model(0).session(1))
        disk.goes_on.clear()
        flushed = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        writer.changed(model(1).session(1))
        waiting = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        writer._stall()  # what its timer does after seconds
        for flush in (flushed, waiting):
            with pytest.raises(StoreUnavailableError, match="has not taken a group"):
                await flush
        assert [False, 0] == [writer.well, writer.durable_sequence("session-0")]
        disk.goes_on.set()
        async with asyncio.timeout(10):
            while not writer.well:
                await asyncio.sleep(0.01)
        assert 1 == writer.durable_sequence("session-0")
        assert [False, True] == told


async def test_so_many_changes_that_a_group_is_full_are_written_before_the_interval_is_over(monkeypatch):
    monkeypatch.setattr("ccm_runtime.group_commit._MAX_GROUP", 3)
    async with committing() as (writer, disk):
        for index in range(3):
            writer.changed(model(index).session(1))
        async with asyncio.timeout(10):
            while writer.durable_sequence("session-2") != 1:
                await asyncio.sleep(0.01)
        assert [(3, 0)] == disk.groups


async def test_closing_with_a_broken_disk_says_so_and_ends():
    disk = Disk()
    writer = GroupCommit(disk, interval_s=60.0)
    writer.changed(model(0).session(1))
    disk.broken = True
    with pytest.raises(StoreUnavailableError):
        await writer.close()


async def test_a_writer_that_wrote_nothing_leaves_no_thread():
    writer = GroupCommit(Disk())
    await writer.close()
    assert not writer._worker.started


async def test_who_asks_a_store_that_fails_learns_it_and_so_does_everybody_until_a_group_works():
    told = []
    async with committing() as (writer, disk):
        writer.on_change = lambda well, _: told.append(well)
        assert [] == await writer.ask(disk.read)

        def fails():
            disk.broken = True
            raise StoreUnavailableError("no answer")

        with pytest.raises(StoreUnavailableError, match="no answer"):
            await writer.ask(fails)
        with pytest.raises(StoreUnavailableError, match="try later"):  # and nobody waits for it again
            await writer.ask(disk.read)
        disk.broken = False
        async with asyncio.timeout(10):
            while not writer.well:  # an empty group is tried
                await asyncio.sleep(0.01)
        assert [] == await writer.ask(disk.read)
    assert [False, True] == told


async def test_a_question_waits_for_the_groups_before_it():
    async with committing() as (writer, disk):
        writer.changed(model(0).session(3))
        disk.goes_on.clear()
        flushed = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        asked = asyncio.create_task(writer.ask(disk.read))
        await asyncio.sleep(0)
        disk.goes_on.set()
        assert ["session-0"] == [entry.session_id for entry in await asked]
        await flushed
