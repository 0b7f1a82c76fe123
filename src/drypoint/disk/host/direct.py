"""Copying to a file past the page cache.

Through the page cache, the processor copies the data to pages that must be allocated first, and a flush writes it to the disk
all the same. Here the source's pages go to the disk directly: O_DIRECT from a mapping.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path

from ...concurrency.pool import Pool, thread_pool
from ...errors import DiskImageError
from .read_write import copy_by_read_write

LEAST_SIZE = 32 << 20
"""The least size for direct copies; smaller files may stay in the cache for the next reader."""
# The alignment for disks and for mappings: pages of 16 and 64 KiB are common on ARM.
_ALIGNMENT = max(4096, mmap.ALLOCATIONGRANULARITY)
LEAST_RUN = 1 << 20
"""The least run of data for direct copies, because each write waits for the disk."""
CHUNK_SIZE = 8 << 20
# Several at once, so that the disk is busy while the next pages are looked up.
_AT_ONCE = 3
# These never share blocks or copy on a server, so copy_file_range has no advantage.
FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4"})
# Errors of allocating in advance where it is not supported (ext2, ext3); EBADF is from glibc's emulation.
_NO_ALLOCATION = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF})
MOUNTS = Path("/proc/self/mountinfo")
"""Where the kernel lists the mounted file systems."""


class DirectTarget:
    """A file that is written past the page cache, in whole blocks."""

    def __init__(self, fd: int, writers: Pool) -> None:
        self._fd = fd
        self._writers = writers

    def whole_blocks(self, source_offset: int, target_offset: int, length: int) -> tuple[int, int]:
        """The (start, end), relative to a range, of the part for :meth:`copy`; empty if both are equal."""
        start = -target_offset % _ALIGNMENT
        end = length - (target_offset + length) % _ALIGNMENT
        if end - start < LEAST_RUN or (source_offset - target_offset) % _ALIGNMENT:
            return 0, 0
        return start, end

    def copy(self, source_fd: int, source_offset: int, target_offset: int, length: int) -> Iterator[int]:
        """Copy a range from :meth:`whole_blocks`; yields the length of each chunk when it is written.

        Raises:
            DiskImageError: the source ends too early.
            OSError: reading or writing failed.
        """
        self._allocate(target_offset, length)
        under_way: deque[Future[int]] = deque()
        try:
            for done in range(0, length, CHUNK_SIZE):
                if len(under_way) == _AT_ONCE:
                    yield under_way.popleft().result()
                size = min(CHUNK_SIZE, length - done)
                under_way.append(
                    self._writers.submit(self._copy_chunk, source_fd, source_offset + done, target_offset + done, size)
                )
            while under_way:
                yield under_way.popleft().result()
        finally:
            # Wait for all: the caller may close the files when it stops early or one write failed.
            wait(under_way)

    def _allocate(self, offset: int, length: int) -> None:
        """Allocate a range contiguously; too little space is an error before anything is written."""
        try:
            os.posix_fallocate(self._fd, offset, length)
        except OSError as error:
            if error.errno not in _NO_ALLOCATION:
                raise

    def _copy_chunk(self, source_fd: int, source_offset: int, target_offset: int, size: int) -> int:
        # So that a source that is not in the page cache is read in large pieces.
        os.posix_fadvise(source_fd, source_offset, size, os.POSIX_FADV_WILLNEED)
        try:
            with mmap.mmap(source_fd, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=source_offset) as pages:
                done = 0
                while done < size:
                    with memoryview(pages) as whole, whole[done:] as rest:
                        done += self._write(rest, target_offset + done)
        except ValueError as error:
            raise shortened(source_offset + size) from error
        except OSError as error:
            # Only the kernel accesses the pages; EFAULT means that they are missing.
            if error.errno not in (errno.EFAULT, errno.ENODEV):
                raise
            if os.fstat(source_fd).st_size < source_offset + size:
                raise shortened(source_offset + size) from error
            # What cannot be mapped may be readable; if not, reading raises the source's error.
            self._go_through_the_cache()
            copy_by_read_write(source_fd, source_offset, self._fd, target_offset, size)
        return size

    def _write(self, data: memoryview, offset: int) -> int:
        try:
            return os.pwrite(self._fd, data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # The disk needs larger blocks than any known one, or this is the rest of a short write. Concurrent writes may have
            # failed the same way.
            self._go_through_the_cache()
            return os.pwrite(self._fd, data, offset)

    def _go_through_the_cache(self) -> None:
        fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) & ~os.O_DIRECT)


@contextmanager
def direct_target(fd: int) -> Iterator[DirectTarget | None]:
    """The file *fd*, open for writing, past the page cache; None if that is not possible or has no advantage."""
    opened = _opened(fd)
    if opened is None:
        yield None
        return
    try:
        with thread_pool(_AT_ONCE, "copy") as writers:
            yield DirectTarget(opened, writers)
    finally:
        os.close(opened)


def _opened(fd: int) -> int | None:
    if _file_system(os.fstat(fd).st_dev) not in FILE_SYSTEMS:
        return None
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        # No /proc, or a device that does not support such writes.
        return None


def _file_system(device: int) -> str | None:
    """The type of the mounted file system with the device number *device*, see proc_pid_mountinfo(5)."""
    number = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        mounts = MOUNTS.read_bytes().split(b"\n")
    except OSError:
        return None
    for mount in mounts:
        fields, _, more = mount.partition(b" - ")
        if fields.split()[2:3] == [number]:
            return more.split(b" ")[0].decode(errors="replace")
    return None


def shortened(end: int) -> DiskImageError:
    """The error for a source that ends before byte *end*."""
    return DiskImageError(f"the file to copy ends before byte {end}; did it change while it was copied?")
