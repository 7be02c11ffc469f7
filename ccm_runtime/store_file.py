"""Whether a file that may be damaged was once a store of ours, or is somebody's text, picture or archive."""

import mmap
import re
from pathlib import Path

from ccm_runtime.records import DIGEST_SIZE, MAGIC

APPLICATION_ID = 0x63636D31  # "ccm1", in the file's header
SIDE_FILES = ("-wal", "-shm", "-journal")
_HEADER = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_ID_AT = slice(68, 72)
# A record as it begins: what it is, its digest, and its message's first field, a session's name after its length.
_RECORD = re.compile(re.escape(MAGIC) + rb".{%d}\n[\x01-\x20][\w-]{8}" % DIGEST_SIZE, re.DOTALL)


def is_foreign(path: Path) -> bool:
    """Return whether nothing in a file, nor beside it, tells of a store: it is to be left as it is.

    What may be left of a store's header is enough: most of its first bytes, our application's id, or the zeros of a
    page that never came to the disk. Where none of it is left there may be a log beside it, or records in it.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if not any(head) or head[_ID_AT] == APPLICATION_ID.to_bytes(4, "big") or _begins_like_a_database(head):
            return False
        if any(path.with_name(path.name + suffix).exists() for suffix in SIDE_FILES):
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            return _RECORD.search(whole) is None


def _begins_like_a_database(head: bytes) -> bool:
    """Whether at least half of the bytes that are there are SQLite's."""
    found = head[: len(_HEADER)]
    return 2 * sum(got == expected for got, expected in zip(found, _HEADER, strict=False)) >= len(found)
