"""Keep the processors from sleeping deeply, so that they wake at once when a message comes.

A processor that waits goes to sleep; the longer it waits the deeper it sleeps, the longer it takes to wake, and the
colder are its caches. To one client that waits for each answer this is most of a step. Linux lets a process say how
late a wake-up may be, for all processors and for as long as it holds a file open (PM QoS, `cpu_dma_latency`).
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccm_runtime.errors import ConfigError

DEVICE = Path("/dev/cpu_dma_latency")
_AT_ONCE_US = struct.pack("i", 0)


@contextmanager
def awake(device: Path = DEVICE) -> Iterator[None]:
    """Keep all processors of this machine awake meanwhile; it costs power, as if they were all busy.

    Raises:
        ConfigError: This system has no such file, or this user may not write to it.
    """
    try:
        held = os.open(device, os.O_WRONLY)
    except OSError as error:
        raise ConfigError(
            f"--stay-awake: cannot write to {device} ({error.strerror}); it takes Linux, and root or a udev rule that "
            "lets this user write to it; or serve without --stay-awake"
        ) from None
    try:
        os.write(held, _AT_ONCE_US)
        yield
    finally:
        os.close(held)
