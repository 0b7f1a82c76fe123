"""Copying sparse files: holes stay holes, and data is copied inside the kernel where possible."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext

from .direct import LEAST_SIZE, DirectTarget, direct_target, shortened
from .read_write import copy_by_read_write

CHUNK_SIZE = 16 << 20

# Errors of copy_file_range on file systems, or pairs of them, that it does not support.
_NO_SHORTCUT = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM})

Progress = Callable[[int], None]


def data_extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The (offset, length) runs of *fd* between *start* and *end* that are not holes, in order.

    A file system without holes yields one run over everything.
    """
    position = start
    while position < end:
        try:
            data = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno == errno.EINVAL:
                yield position, end - position
                return
            raise
        if data >= end:
            return
        hole = min(os.lseek(fd, data, os.SEEK_HOLE), end)
        yield data, hole - data
        position = hole


def copy_sparse(
    source_fd: int,
    target_fd: int,
    *,
    source_offset: int = 0,
    target_offset: int = 0,
    length: int | None = None,
    progress: Progress | None = None,
    for_good: bool = False,
) -> int:
    """Copy *length* bytes (default: to the source's end) to a target range that reads as zeros, skipping the source's holes.

    The target gets its full length, even if the source ends with a hole. *progress* is called with the number of bytes
    done since its last call, holes included; after the last call the sum is *length*.

    Args:
        for_good: the target will be flushed, and need not be in the page cache: large runs are written to the disk directly if
            blocks cannot be shared.

    Returns:
        The bytes of data that were copied.

    Raises:
        DiskImageError: the source is shorter than *length*.
        OSError: reading or writing failed (ENOSPC, for example); the caller names the file.
    """
    source_size = os.lseek(source_fd, 0, os.SEEK_END)
    total = source_size - source_offset if length is None else length
    if source_offset + total > source_size:
        raise shortened(source_offset + total)
    if os.fstat(target_fd).st_size < target_offset + total:
        os.ftruncate(target_fd, target_offset + total)
    copied = passed = 0
    large = for_good and total >= LEAST_SIZE
    with direct_target(target_fd) if large else nullcontext() as direct:
        for offset, size in data_extents(source_fd, source_offset, source_offset + total):
            here = offset - source_offset
            for done in _copied(direct, source_fd, offset, target_fd, here + target_offset, size):
                copied += done
                here += done
                if progress is not None:
                    progress(here - passed)
                    passed = here
    # A part that was cut off meanwhile looks like a hole.
    if os.lseek(source_fd, 0, os.SEEK_END) < source_offset + total:
        raise shortened(source_offset + total)
    if progress is not None and passed < total:
        progress(total - passed)
    return copied


def _copied(
    direct: DirectTarget | None, source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int
) -> Iterator[int]:
    """Copy a run of data; yields the length of each piece when it is copied."""
    start, end = (0, 0) if direct is None else direct.whole_blocks(source_offset, target_offset, length)
    yield from _copied_inside(source_fd, source_offset, target_fd, target_offset, start)
    if direct is not None and start < end:
        yield from direct.copy(source_fd, source_offset + start, target_offset + start, end - start)
    yield from _copied_inside(source_fd, source_offset + end, target_fd, target_offset + end, length - end)


def _copied_inside(
    source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int
) -> Iterator[int]:
    for done in range(0, length, CHUNK_SIZE):
        size = min(CHUNK_SIZE, length - done)
        copy_range(source_fd, source_offset + done, target_fd, target_offset + done, size)
        yield size


def copy_range(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> None:
    """Copy exactly *length* bytes, inside the kernel if possible (on some file systems by sharing blocks).

    Raises:
        DiskImageError: the source ends too early.
        OSError: reading or writing failed.
    """
    done = 0
    while done < length:
        try:
            count = os.copy_file_range(source_fd, target_fd, length - done, source_offset + done, target_offset + done)
        except OSError as error:
            if error.errno not in _NO_SHORTCUT:
                raise
            count = 0
        if count == 0:
            # Some kernels return 0 where they cannot copy, too: reading shows a true end of file.
            copy_by_read_write(source_fd, source_offset + done, target_fd, target_offset + done, length - done)
            return
        done += count
