"""Inserting, removing and punching ranges of a file without copying: modes of fallocate(2).

Only some file systems support them (ext4, XFS and F2FS move ranges; most punch holes), and only for whole blocks. On the others
the caller copies.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Callable

# linux/falloc.h
_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_COLLAPSE_RANGE = 0x08
_INSERT_RANGE = 0x20

# Errors of the call if the file system or kernel lacks the mode or needs other units, or if the file would become too
# long, if only for a moment.
_CANNOT = frozenset(
    {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV, errno.ETXTBSY, errno.EFBIG}
)


def insert_range(fd: int, offset: int, length: int) -> bool:
    """Insert a hole of *length* bytes at *offset*, moving up what follows; whether the file system supports it.

    Both are multiples of its block size; the offset is inside the file, which becomes longer.

    Raises:
        OSError: it is supported, but failed (ENOSPC, EIO).
    """
    return _fallocate(fd, _INSERT_RANGE, offset, length)


def collapse_range(fd: int, offset: int, length: int) -> bool:
    """Remove *length* bytes at *offset*, moving down what follows; whether the file system supports it.

    Both are multiples of its block size; the range ends before the end of the file, which becomes shorter.

    Raises:
        OSError: it is supported, but failed.
    """
    return _fallocate(fd, _COLLAPSE_RANGE, offset, length)


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Make *length* bytes at *offset* read as zeros and free their blocks; whether the file system supports it.

    Raises:
        OSError: it is supported, but failed.
    """
    return _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length)


def _fallocate(fd: int, mode: int, offset: int, length: int) -> bool:
    number = _function()(fd, mode, offset, length)
    if number == 0:
        return True
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number))


@functools.cache
def _function() -> Callable[[int, int, int, int], int]:
    """fallocate with 64-bit offsets; it returns errno. os.posix_fallocate has no modes."""
    library = ctypes.CDLL(None, use_errno=True)
    # glibc's fallocate takes 32-bit offsets on 32-bit machines; musl has only fallocate, always with 64 bits.
    function = library.fallocate64 if hasattr(library, "fallocate64") else library.fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int

    def call(fd: int, mode: int, offset: int, length: int) -> int:
        while function(fd, mode, offset, length) != 0:
            number = ctypes.get_errno()
            if number != errno.EINTR:
                return number
        return 0

    return call
