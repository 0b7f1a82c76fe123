"""File systems of the host that are full: recognized, and named with the way out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import DrypointError, OutputError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_LITTLE = 1 << 20


def is_full(error: BaseException) -> bool:
    """Whether *error* is, or was caused by, a full file system that its message does not name yet."""
    if isinstance(error, OutputError) and error.full is not None:
        return False
    return any(isinstance(item, OSError) and item.errno in FULL for item in (error, error.__cause__))


def full_error(path: Path, written: int) -> OutputError:
    """The error for the file system of *path*, which is full; *written* are the bytes that it took so far."""
    error = OutputError(f"cannot write {path}: {full_file_system(path.parent, written)}, or choose another directory")
    error.full = path.parent
    return error


def full_file_system(directory: Path, written: int) -> str:
    """What is full about the file system of *directory*, where *written* bytes were written, and the way out."""
    status = os.statvfs(directory)
    left = status.f_bavail * status.f_frsize
    if _without_inodes(status):
        return (
            f"the file system of {directory} has no free inode ({status.f_files} are in use, {left} bytes are left); remove "
            "files there"
        )
    return (
        f"the file system of {directory} is full ({written} bytes were written, {left} are left); free some space there"
    )


@contextmanager
def scratch_space(directory: Path) -> Iterator[None]:
    """Name *directory*, where the block has temporary files, if its file system is what is full when the block fails.

    Raises:
        OutputError: it is.
    """
    try:
        yield
    except (OSError, DrypointError) as error:
        if not is_full(error):
            raise
        status = os.statvfs(directory)
        left = status.f_bavail * status.f_frsize
        if left >= _LITTLE and not _without_inodes(status):
            # Another one.
            raise
        what = "has no free inode" if _without_inodes(status) else f"is full ({left} bytes are left)"
        named = OutputError(
            f"cannot write temporary files: the file system of {directory} {what}; free some space there, or set TMPDIR to a "
            "directory with more space"
        )
        named.full = directory
        raise named from error


def _without_inodes(status: os.statvfs_result) -> bool:
    # File systems that make inodes as needed report none at all.
    return bool(status.f_files) and not status.f_favail
