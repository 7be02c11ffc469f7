"""What the C library does with memory that is freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER, _LARGEST = 2**31 - 1, 2**25


def keep_what_is_freed() -> None:
    """Let this process keep freed memory for its next need, where the C library is GNU's; elsewhere do nothing.

    An update frees its activations together. glibc then returns them to the system and gets them again page by page in
    the next update: 24,000 page faults and a fifth of its time at the sizes of `benchmarks/learner.py`.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_MMAP_THRESHOLD, _LARGEST)
