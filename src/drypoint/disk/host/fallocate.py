"""Changing which blocks of a file lie where, without copying: fallocate(2) with its modes that take out, put in and make holes.

Only some file systems can (ext4, XFS and F2FS move ranges; most make holes), and only in whole blocks. The others say so,
and the caller copies.
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

# What the call says where file system or kernel lacks the mode, or wants other units than expected; and where the file
# would become too long, if only for a moment.
_CANNOT = frozenset(
    {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV, errno.ETXTBSY, errno.EFBIG}
)


def insert_range(fd: int, offset: int, length: int) -> bool:
    """Put a hole of *length* bytes in at *offset*, moving up all behind it; whether the file system could.

    Both are multiples of its block size; the offset lies inside the file, which becomes longer.

    Raises:
        OSError: it can in principle, but failed (ENOSPC, EIO).
    """
    return _fallocate(fd, _INSERT_RANGE, offset, length)


def collapse_range(fd: int, offset: int, length: int) -> bool:
    """Take *length* bytes out at *offset*, moving down all behind them; whether the file system could.

    Both are multiples of its block size; the range ends before the end of the file, which becomes shorter.

    Raises:
        OSError: it can in principle, but failed.
    """
    return _fallocate(fd, _COLLAPSE_RANGE, offset, length)


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Make *length* bytes at *offset* read as zeros and give their blocks back; whether the file system could.

    Raises:
        OSError: it can in principle, but failed.
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
    """fallocate with 64-bit offsets, giving errno. os.posix_fallocate knows no modes."""
    library = ctypes.CDLL(None, use_errno=True)
    # glibc's plain name takes 32-bit offsets on 32-bit machines; musl has only the plain one, always of 64 bits.
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
