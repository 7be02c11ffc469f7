"""Files that are there whole or not at all, and that are still there after a power cut."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE


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


def exchange(one: Path, other: Path) -> None:
    """Let two files or folders change places in one step, so that there is always one of them at either path.

    Raises:
        OSError: One of them is not there; or the file system has no such step: `ENOSYS`, `EINVAL` or `ENOTSUP`.
    """
    paths = os.fsencode(one), os.fsencode(other)
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # another libc
        failed = errno.ENOSYS
    else:
        failed = ctypes.get_errno() if rename(_CURRENT_FOLDER, paths[0], _CURRENT_FOLDER, paths[1], _EXCHANGE) else 0
    if failed:
        raise OSError(failed, os.strerror(failed), str(one), None, str(other))
