import os
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
