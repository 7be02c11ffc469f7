"""A limit on every call of a simulation: one that does not return is interrupted, or else the process ends.

A thread keeps the time, by counting its own ticks: time in which the process was suspended does not count. It
interrupts the main thread with SIGALRM, which Python code feels, also where it sleeps or waits. Code in C feels it when
it returns; if it does not, there is nothing left but to end the process. No handler of a signal runs in that time: the
thread hears of signals through a pipe. Code in C that lets no other thread run either is out of reach: only `kill -9`
ends that. Whatever happens, the last checkpoint is whole.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ccm_runtime.errors import CcmError, SimulationError
from ccm_training.checkpoint import what_is_saved
from ccm_training.envs.failing import SimulationFailedError
from ccm_training.stopping import Stop, StopAskedError

TICK_S = 0.25
STOP_PATIENCE_S = 2.0
"""How long a call may still take once the run is to stop."""
LAST_RESORT_S = 15.0
"""How long it may take to be interrupted."""
_SHOW_CURSOR = "\x1b[?25h"


class CallWatch:
    """Watches one call at a time, inside a `with` in the main thread; elsewhere no signal can interrupt, and none does.

    Args:
        stop: Whether the run is to stop.
        limit_s: Most seconds that a call may take.
        run_dir: Where the run lives.
    """

    def __init__(self, stop: Stop, limit_s: float, run_dir: Path) -> None:
        self._stop, self._limit_s, self._run_dir = stop, limit_s, run_dir
        self._family, self._num_calls, self._under_way = "", 0, False
        self._since_s, self._overdue = 0.0, 0
        self._heard: tuple[signal.Signals, int] | None = None  # a signal, and how many calls there had been
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_time, name="call-watch", daemon=True)
        self._active = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        if self._active:
            self._before = signal.signal(signal.SIGALRM, self._interrupt)
            self._ear, self._mouth = os.pipe()
            for end in (self._ear, self._mouth):
                os.set_blocking(end, False)
            self._told_before = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            self._ended.set()
            self._thread.join()
            signal.set_wakeup_fd(self._told_before)
            os.close(self._ear)
            os.close(self._mouth)
            signal.signal(signal.SIGALRM, self._before)

    @contextmanager
    def call(self, family: str) -> Iterator[None]:
        """A call of a family's simulation.

        Raises:
            SimulationError: It failed, which is told with what is saved, or did not return within the limit.
            StopAskedError: The run is to stop, and it did not return soon.
        """
        self._family = family
        self._num_calls += 1
        self._under_way = True
        try:
            yield
        except SimulationFailedError as error:
            raise SimulationError(
                f"{error}; {what_is_saved(self._run_dir)}. Mend the family, then go on with --resume"
            ) from error.__cause__
        except CcmError:
            raise
        except Exception as error:  # of a family of ours, which is not the user's to mend
            raise SimulationError(
                f"the simulation of {family} failed: {type(error).__name__}: {error}; {what_is_saved(self._run_dir)}. "
                "Please report it; --resume goes on"
            ) from error
        finally:
            self._under_way = False

    def _keep_time(self) -> None:
        call, since_stop_s = 0, 0.0
        while not self._ended.wait(TICK_S):
            self._listen()
            if not self._under_way or self._num_calls != call:
                call, self._since_s, since_stop_s = self._num_calls, 0.0, 0.0
                continue
            self._since_s += TICK_S
            since_stop_s += TICK_S if self._asked_by() is not None else 0.0
            over_s = max(self._since_s - self._limit_s, since_stop_s - STOP_PATIENCE_S)
            if over_s >= LAST_RESORT_S:
                self._end_process()
            elif over_s >= 0.0:  # at every tick: the simulation may catch the error and go on
                self._overdue = call
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            for number in os.read(self._ear, 1 << 10):
                if number in {signal.SIGINT, signal.SIGTERM}:
                    self._heard = signal.Signals(number), self._num_calls

    def _asked_by(self) -> signal.Signals | None:
        """Who asked the run to stop; a signal that was heard counts until the main thread has come to another call."""
        if self._stop.asked_by is None and self._heard is not None and self._heard[1] == self._num_calls:
            return self._heard[0]
        return self._stop.asked_by

    def _interrupt(self, _number: int, _frame: object) -> None:
        if not self._under_way or self._overdue != self._num_calls:
            return  # it returned in the meantime
        if self._stop.asked_by is not None:
            raise StopAskedError
        self._heard = None  # its handler runs next, or it was a signal to a child, which has the same pipe
        if self._since_s >= self._limit_s:
            raise SimulationError(
                f"{self._stuck()}, longer than collect.simulation_limit_s; {what_is_saved(self._run_dir)}. Mend the "
                "family, or raise the limit if it is only slow, then go on with --resume"
            )

    def _end_process(self) -> None:
        """Say why, and end here and now: to end in order would wait for the main thread."""
        asked_by = self._asked_by()
        line = (
            f"ccm: error: {self._stuck()} and cannot be interrupted, so the process ends; "
            f"{what_is_saved(self._run_dir)}. Mend the family, then go on with --resume\n"
        )
        with suppress(OSError):
            os.write(2, ((_SHOW_CURSOR if sys.stderr.isatty() else "") + line).encode())
        os._exit(SimulationError.exit_code if asked_by is None else 128 + asked_by)

    def _stuck(self) -> str:
        return f"the simulation of {self._family} has not returned for {self._since_s:.0f} s"
