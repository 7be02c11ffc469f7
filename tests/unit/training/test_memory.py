"""Memory that is freed is kept for what comes next, where the system can be asked to."""

import platform
import subprocess
import sys

import pytest

from ccm_training import memory

CYCLES = """
import resource
from ccm_training.memory import keep_what_is_freed
{call}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"1") * 5_000_000 for _ in range(6)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(3):
    faults()
print(faults())
"""


def faults_of_a_cycle(call: str) -> int:
    """Page faults when 30 MB are asked for and freed for the fourth time, in a process of its own."""
    return int(subprocess.run([sys.executable, "-c", CYCLES.format(call=call)], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_is_freed_is_not_got_from_the_system_again():
    assert faults_of_a_cycle("keep_what_is_freed()") < 100 < faults_of_a_cycle("")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    memory.keep_what_is_freed()
