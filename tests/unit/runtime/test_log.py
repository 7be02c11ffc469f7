"""A log that cannot be written, or that nobody reads, keeps no server from serving."""

import os
import threading
from pathlib import Path

import pytest

from ccm_runtime.log import logger


def left_by_its_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full():
    return Path("/dev/full").open("w", encoding="utf-8")


@pytest.mark.parametrize("stderr", [full, left_by_its_reader])
def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch, stderr):
    broken = stderr()
    monkeypatch.setattr("sys.stderr", broken)
    log = logger("info")
    for _ in range(3):
        log.info("session opened", session_id="0123")
    with pytest.raises(OSError, match=r"No space left|Broken pipe"):
        broken.close()


def test_a_log_that_nobody_reads_for_a_while_keeps_nobody_waiting_and_goes_on_later(monkeypatch):
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        log = logger("info")

        def write():
            for number in range(2_000):
                log.info("session opened", number=number, more="x" * 3_000)

        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        writing.join(20)
        assert not writing.is_alive()
        said = os.read(reader, 1 << 20)
        assert b"number=0 " in said
        assert b"number=1999 " not in said
        log.info("session closed")
        assert b"session closed" in os.read(reader, 1 << 20)
    os.close(reader)
