"""A machine is told by its name and cores, a process by its processor time and by what it holds."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ccm_runtime.machine import cpu_s, machine, num_descriptors, num_threads, resident_mb

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
PID = os.getpid()


def test_a_machine_has_a_name_and_cores():
    assert machine().endswith(f", {os.cpu_count()} cores")
    assert "\t" not in machine()


def test_processor_time_is_that_of_all_threads():
    before_s = time.process_time()
    told_s = cpu_s(PID)
    assert before_s - 0.1 <= told_s <= time.process_time() + 0.1


def test_what_a_process_holds_is_counted():
    before = num_descriptors(PID), num_threads(PID), resident_mb(PID)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    with Path(__file__).open("rb"):
        held = np.ones(32 << 17)  # 32 MiB
        after = num_descriptors(PID), num_threads(PID), resident_mb(PID)
    ended.set()
    thread.join()
    assert (before[0] + 1, before[1] + 1) == after[:2]
    assert after[2] - before[2] == pytest.approx(held.nbytes / 2**20, abs=8.0)


def test_a_process_that_there_is_not_cannot_be_asked():
    with pytest.raises(OSError, match="No such file"):
        cpu_s(2**22 + 1)
