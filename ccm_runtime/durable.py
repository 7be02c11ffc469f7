"""Files that are there whole or not at all, and that are still there after a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is on disk once the block has come to its end; a crash may leave a part of it."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on disk; a crash may leave a part of it."""
    with synced(path) as file:
        file.write(content)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file, or leave the one that was there: a crash leaves either of them, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    write_synced(partial, content.encode() if isinstance(content, str) else content)
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Wait until what was made, renamed or removed in a folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
