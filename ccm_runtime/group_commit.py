"""Make sessions durable beside the event loop: what changed is written in groups, the last value of each session.

A step is answered at once, so nothing waits for the disk; each answer says up to which event its session is durable.
All state belongs to the loop. Only encoding and the store's own calls run on a thread, one group at a time.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

from ccm_runtime.errors import StoreUnavailableError
from ccm_runtime.moment import Moment
from ccm_runtime.records import Stored, to_bytes
from ccm_runtime.session import Session
from ccm_runtime.store import Record, SharedStore, Store
from ccm_runtime.worker import Worker

T = TypeVar("T")
FailurePolicy = Literal["degrade", "refuse"]

_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0
_STALLED_S = 5.0  # a disk that takes longer than this for one group counts as failing
_TIDY_EVERY_S = 60.0
_MAX_GROUP = 1_000  # as many sessions change before the interval is over: write them now
_MAX_GONE = 100_000  # sessions that are to leave a store that fails for long


@dataclass(slots=True)
class Counts:
    """What was done: groups that were committed, sessions in them, and groups that failed."""

    num_commits: int = 0
    num_records: int = 0
    num_failures: int = 0


@dataclass(frozen=True, slots=True)
class Gone:
    """In the place of a session: it is gone, and was held under this epoch."""

    epoch: int


Change = Session | Gone
Group = dict[str, Change]  # by the session's name


class GroupCommit:
    """Writes the sessions of a table to a store.

    Attributes:
        counts: What was done.
        on_change: Called with the new state when the store fails or is well again.
        on_lost: Called with the name and epoch of a session that another server holds now; whether none of the name
            is held here any more.

    Args:
        store: Where to.
        interval_s: A change is written at most this long after it, and as long as the group before it takes.
        on_failure: `degrade`: sessions go on while the store fails; `refuse`: their events are refused.
        clock: Seconds that never jump.
    """

    def __init__(
        self,
        store: Store | SharedStore,
        *,
        interval_s: float = 0.05,
        on_failure: FailurePolicy = "degrade",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self.on_change: Callable[[bool, str], None] = lambda _well, _why: None
        self.on_lost: Callable[[str, int], bool] = lambda _name, _epoch: False
        self._store = store
        self._interval_s = interval_s
        self._on_failure = on_failure
        self._well = True
        self._clock = clock
        self._live: Callable[[], Iterable[Session]] = tuple
        self._changed: Group = {}
        self._too_many = 2 * _MAX_GONE
        self._durable: dict[str, int] = {}
        self._written: set[str] = set()  # of the group under way: names that are still those of its sessions
        self._timer: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None  # set while a group is being written
        self._tidied_s = clock()
        self._retry_s = _FIRST_RETRY_S
        self._waiting: list[asyncio.Future[None]] = []  # for the next group
        self._riding: list[asyncio.Future[None]] = []  # for the one that is being written
        self._worker = Worker("ccm-store")
        self._closed = False

    @property
    def well(self) -> bool:
        """Whether the store takes what it is given, in time."""
        return self._well

    @property
    def num_unsaved(self) -> int:
        """Sessions whose last change is not yet being written."""
        return len(self._changed)

    def watch(self, live: Callable[[], Iterable[Session]], durable: Iterable[Session], *, well: bool = True) -> None:
        """Learn where to begin.

        Args:
            live: Where the live sessions are found: after a failure all of them are written again.
            durable: Those that the store holds already.
            well: Whether the store could be used.
        """
        self._live, self._well = live, well
        self._durable = {session.session_id: session.next_sequence - 1 for session in durable}

    def changed(self, session: Session) -> None:
        """Take note of a session's new value."""
        self._changed[session.session_id] = session
        self._schedule()

    def removed(self, session: Session) -> None:
        """Take note that a session is gone."""
        self.let_go(session.session_id)
        self._changed[session.session_id] = Gone(session.epoch)
        self._forget()
        self._schedule()

    def removes(self, session_id: str) -> bool:
        """Return whether a session that is gone waits to leave the store."""
        return isinstance(self._changed.get(session_id), Gone)

    def taken(self, session: Session) -> None:
        """Take note that the store gave a session to this server, as it is."""
        self._changed.pop(session.session_id, None)
        self._written.discard(session.session_id)
        self._durable[session.session_id] = session.next_sequence - 1

    def let_go(self, session_id: str) -> None:
        """Take note that a session is held here no longer: another one of its name is not durable by it."""
        self._durable.pop(session_id, None)
        self._written.discard(session_id)

    def durable_sequence(self, session_id: str) -> int:
        """Return the last event of a session that survives a crash; 0: none."""
        return self._durable.get(session_id, 0)

    def check(self) -> None:
        """Refuse to go on without a store, where that is the policy.

        Raises:
            StoreUnavailableError: The store fails.
        """
        if self._on_failure == "refuse" and not self.well:
            raise StoreUnavailableError("the server's store fails and it goes on with durable sessions only; try later")

    async def flush(self) -> None:
        """Wait until all that was noted so far is durable.

        Raises:
            StoreUnavailableError: It could not be made durable; with `degrade` it is tried again later.
        """
        if self._closed or not self.well:
            raise StoreUnavailableError("the server's store fails; sessions are not durable now")
        await self._committed()

    async def ask(self, question: Callable[[], T]) -> T:
        """Return what the store answers, after the groups that were begun before.

        Raises:
            StoreUnavailableError: It fails, or does not answer in time.
        """
        if self._closed or not self.well:
            raise StoreUnavailableError("the server's store fails; try later")
        try:
            async with asyncio.timeout(_STALLED_S):
                return await self._worker.run(question)
        except (TimeoutError, StoreUnavailableError) as error:
            why = str(error) or f"the store has not answered for {_STALLED_S:g} s"
            self._keep({}, why)
            self._schedule()
            raise StoreUnavailableError(why) from None

    async def close(self) -> None:
        """Write what is left, wherever the store stands, and let it go; say whether that worked.

        Raises:
            StoreUnavailableError: What is left could not be written.
        """
        if self._closed:
            return
        try:
            async with asyncio.timeout(_STALLED_S):
                while self._changed or self._alarm is not None:
                    await self._committed()
        except TimeoutError:
            raise StoreUnavailableError(f"the store did not take the last sessions in {_STALLED_S:g} s") from None
        finally:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            await self._let_go()

    async def _let_go(self) -> None:
        """Close the store on its thread; one that hangs keeps it, and the process need not wait for it."""
        hangs = self._alarm is not None
        self._quieten()
        if not self._worker.started:
            self._store.close()
            return
        with suppress(TimeoutError, StoreUnavailableError):
            async with asyncio.timeout(0.0 if hangs else _STALLED_S):
                await self._worker.run(self._store.close)
        self._worker.stop()

    async def _committed(self) -> None:
        """Wait for the group that holds the last change."""
        if not self._changed and self._alarm is None:
            return
        done = asyncio.get_running_loop().create_future()
        (self._waiting if self._changed else self._riding).append(done)
        if self._alarm is None:
            self._begin()
        await done

    def _schedule(self) -> None:
        if self._alarm is not None or self._closed:
            return  # whoever finishes the group under way begins the next
        if self._timer is None:
            wait_s = self._interval_s if self._well else self._retry_s
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._begin)
        elif len(self._changed) == _MAX_GROUP and self._well:
            self._begin()

    def _begin(self) -> None:
        """Hand the group to the thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        group, self._changed = self._changed, {}
        self._written = set(group)
        self._riding, self._waiting = self._waiting, []
        self._alarm = asyncio.get_running_loop().call_later(_STALLED_S, self._stall)
        tidy = self._clock() - self._tidied_s > _TIDY_EVERY_S
        if tidy:
            self._tidied_s = self._clock()

        self._worker.submit(
            lambda: self._write(group, tidy=tidy), lambda lost, error: self._end(group, lost or frozenset(), error)
        )

    def _write(self, group: Group, *, tidy: bool) -> frozenset[str]:
        """Commit a group, on the thread; return the names of what other servers hold."""
        now, store = Moment.now(), self._store
        # Encoded one by one while SQLite takes them: a long run of Python here would keep the event loop waiting.
        saved = (
            Record(name, to_bytes(Stored(change, now)), change.epoch)
            for name, change in group.items()
            if isinstance(change, Session)
        )
        gone = [Record(name, b"", change.epoch) for name, change in group.items() if isinstance(change, Gone)]
        if isinstance(store, SharedStore):
            return store.commit_held(saved, gone)
        store.commit(saved, [record.session_id for record in gone])
        if tidy:
            store.tidy()
        return frozenset()

    def _end(self, group: Group, lost: frozenset[str], error: Exception | None) -> None:
        """Take a written group in, or keep it to be tried again."""
        self._quieten()
        riding, self._riding = self._riding, []
        if error is None:
            self._acknowledge(group, lost)
            _release(riding)
        else:
            self._keep(group, str(error))
            _refuse(riding, str(error))
        if self._waiting and self._well:
            self._begin()
        elif self._changed or not self._well:  # an empty group too shows whether the store is well again
            self._schedule()

    def _acknowledge(self, group: Group, lost: frozenset[str]) -> None:
        for session_id, change in group.items():
            if session_id in lost:
                self._lose(session_id, change.epoch)
            elif isinstance(change, Session) and session_id in self._written:
                self._durable[session_id] = change.next_sequence - 1
        self.counts.num_commits += 1
        self.counts.num_records += len(group)
        self._retry_s = _FIRST_RETRY_S
        self._turn(well=True, why="")

    def _lose(self, session_id: str, epoch: int) -> None:
        """Let a session go that another server holds, unless this one has taken it back since."""
        changed = self._changed.get(session_id)
        if changed is not None and changed.epoch == epoch:
            del self._changed[session_id]
        if self.on_lost(session_id, epoch):
            self.let_go(session_id)

    def _keep(self, group: Group, why: str) -> None:
        """Write every live session again: what an earlier group left to the disk may be lost with this one."""
        live = {session.session_id: session for session in self._live()}
        self._changed = {**group, **live, **self._changed}
        self._forget()
        self.counts.num_failures += 1
        self._retry_s = min(self._retry_s * 2, _LAST_RETRY_S)
        self._refuse_waiting(why)
        self._turn(well=False, why=why)

    def _forget(self) -> None:
        """Remember no more sessions that are gone than is allowed; in the store, the oldest end when they are idle."""
        if len(self._changed) < self._too_many:
            return
        gone = [session_id for session_id, change in self._changed.items() if isinstance(change, Gone)]
        for session_id in gone[:-_MAX_GONE]:
            del self._changed[session_id]
        self._too_many = len(self._changed) + _MAX_GONE

    def _stall(self) -> None:
        why = f"the store has not taken a group of sessions for {_STALLED_S:g} s"
        riding, self._riding = self._riding, []
        _refuse(riding, why)
        self._refuse_waiting(why)
        self._turn(well=False, why=why)

    def _refuse_waiting(self, why: str) -> None:
        waiting, self._waiting = self._waiting, []
        _refuse(waiting, why)

    def _quieten(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _turn(self, *, well: bool, why: str) -> None:
        if well != self._well:
            self._well = well
            self.on_change(well, why)


def _release(waiters: "list[asyncio.Future[None]]") -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def _refuse(waiters: "list[asyncio.Future[None]]", why: str) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(StoreUnavailableError(why))
