"""Write down what sessions were told and answered, beside the event loop, for `ccm replay`.

A step costs one append to a bounded queue. What does not fit into it, or onto the disk, is dropped and counted; the
next event of its session begins a new file, with the trial as it then is: every file can be replayed by itself.
"""

import errno
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccm_runtime.errors import ConfigError
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import Answer, Event
from ccm_runtime.recording import MAGIC, SUFFIX, head, line
from ccm_runtime.session import Session

MAX_WAITING = 16_384
_MAX_OPEN = 16_384  # files that may still grow
_PARTS = 16  # a file is at most this share of the folder
_EVERY_S, _REST_S, _PIECE = 0.2, 0.0002, 8
_GROUP = 2_048  # events whose files are opened once
_TIDY_EVERY_S = 5.0
_STOP_S = 5.0

Entry = tuple[Event, Session, Answer, int | None]  # as `recording.line` takes it, with the session before the event


@dataclass(slots=True)
class _Part:
    """A file that is written to."""

    path: Path
    bundle_digest: str
    next_sequence: int
    num_bytes: int = 0

    def continues(self, before: Session, answer: Answer) -> bool:
        """Return whether an event follows what is in the file, and the same bundle answered it."""
        return answer.sequence == self.next_sequence and before.bundle_digest == self.bundle_digest


class Recorder:
    """Writes files `SESSION-FIRST.ccmrec` into a folder; the oldest go when the folder is full.

    Attributes:
        num_recorded: Events that were written.

    Args:
        folder: Where to; it is made.
        max_bytes: Most that all files together hold, give or take what comes within a few seconds.
        agent_of: Returns the name and the limits of the agent in a bundle, by its digest; called from the thread.
        log: Is told when events are dropped, once in a while.
    """

    def __init__(
        self, folder: Path, max_bytes: int, agent_of: Callable[[str], tuple[str, SafetyLimits | None]], log: Any
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = folder / f".probe{SUFFIX}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(f"cannot record into {folder}: {error.strerror}; name another --record") from None
        self.num_recorded = 0
        self._num_unfit = 0  # only the event loop counts these,
        self._num_failed = 0  # and only the thread these
        self._folder = folder
        self._max_bytes = max_bytes
        self._agent_of = agent_of
        self._log = log
        self._waiting: deque[Entry] = deque()
        self._parts: OrderedDict[str, _Part] = OrderedDict()
        self._told_dropped = 0
        self._tidied_s = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ccm-record", daemon=True)
        self._thread.start()

    @property
    def num_dropped(self) -> int:
        """Events that were not written: they came too fast, or the disk failed."""
        return self._num_unfit + self._num_failed

    def took(self, event: Event, before: Session, answer: Answer, *, fell_back: bool = False) -> None:
        """Note an event: the session before it, what it was answered, and whether without the networks."""
        if len(self._waiting) >= MAX_WAITING:
            self._num_unfit += 1
            return
        self._waiting.append((event, before, answer, len(before.memory.owed) if fell_back else None))

    def stop(self) -> None:
        """Write what is left; wait for it, but not for a disk that hangs."""
        self._stopping.set()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            self._log.warning("recordings not written", num_waiting=len(self._waiting))

    def _work(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self._turn()
        self._turn()

    def _turn(self) -> None:
        """Write what waits, in small pieces: a long run of Python here would keep the event loop waiting."""
        while num := min(len(self._waiting), _GROUP):
            texts: dict[Path, list[bytes]] = {}
            for index in range(1, num + 1):
                path, text = self._noted(*self._waiting.popleft())
                texts.setdefault(path, []).append(text)
                self._rest(index)
            for index, (path, group) in enumerate(texts.items(), 1):
                self._write(path, group)
                self._rest(index)
        if self.num_dropped > self._told_dropped:
            self._log.warning("recording dropped events", num_dropped=self.num_dropped)
            self._told_dropped = self.num_dropped
        if time.monotonic() - self._tidied_s > _TIDY_EVERY_S:
            self._tidied_s = time.monotonic()
            self._tidy()

    def _rest(self, index: int) -> None:
        if not index % _PIECE and not self._stopping.is_set():
            time.sleep(_REST_S)

    def _noted(self, event: Event, before: Session, answer: Answer, num_owed: int | None) -> tuple[Path, bytes]:
        """Return which file an event belongs into, and what to write there."""
        text = line(event, answer, num_owed)
        part = self._parts.get(before.session_id)
        if part is None or not part.continues(before, answer) or part.num_bytes > self._max_bytes // _PARTS:
            path = self._folder / f"{before.session_id}-{answer.sequence:09d}{SUFFIX}"
            part = self._parts[before.session_id] = _Part(path, before.bundle_digest, answer.sequence)
            text = head(before, *self._agent_of(before.bundle_digest), time.time()) + text
        part.next_sequence += 1
        part.num_bytes += len(text)
        self._parts.move_to_end(before.session_id)
        if len(self._parts) > _MAX_OPEN:
            self._parts.popitem(last=False)
        return part.path, text

    def _write(self, path: Path, texts: list[bytes]) -> None:
        """Append events to a file; one that begins with its header replaces what an earlier server left there."""
        begins = os.O_CREAT | os.O_TRUNC if texts[0].startswith(MAGIC) else os.O_APPEND  # to no file without a header
        try:
            file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | begins, 0o600)
            try:
                data = b"".join(texts)
                if os.write(file, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(file)
        except OSError:
            self._end(path)
            self._num_failed += len(texts)
            if begins != os.O_APPEND:  # or a full disk would gather files without a byte, which no bound counts
                with suppress(OSError):
                    path.unlink()
        else:
            self.num_recorded += len(texts)

    def _end(self, path: Path) -> None:
        """Write no more to a file: the next event of its session begins a new one."""
        session_id = path.name.partition("-")[0]
        if session_id in self._parts and self._parts[session_id].path == path:
            del self._parts[session_id]

    def _tidy(self) -> None:
        """Remove the files that were written to the longest ago, while there is too much."""
        try:
            found = [(path.stat(), path) for path in self._folder.glob(f"*{SUFFIX}")]
            total = sum(status.st_size for status, _ in found)
            if total <= self._max_bytes:
                return
            places = {part.path: place for place, part in enumerate(self._parts.values())}  # a disk's clock is coarse
            for status, path in sorted(found, key=lambda one: (one[0].st_mtime_ns, places.get(one[1], -1))):
                if total <= self._max_bytes:
                    break
                path.unlink()
                self._end(path)
                total -= status.st_size
        except OSError as error:
            self._log.warning("recordings not tidied", why=str(error))
