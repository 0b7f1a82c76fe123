"""Copying between files by reading and writing, where the kernel cannot copy itself."""

from __future__ import annotations

import os

from ...errors import DiskImageError

_BUFFER_SIZE = 1 << 20


def copy_by_read_write(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> None:
    """Copy exactly *length* bytes through memory.

    Raises:
        DiskImageError: the source ends too early.
        OSError: reading or writing failed.
    """
    buffer = bytearray(min(_BUFFER_SIZE, length))
    done = 0
    while done < length:
        view = memoryview(buffer)[: min(len(buffer), length - done)]
        count = os.preadv(source_fd, [view], source_offset + done)
        if count == 0:
            raise DiskImageError(f"the file to copy ends at byte {source_offset + done}, {length - done} bytes early")
        write_all(target_fd, view[:count], target_offset + done)
        done += count


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of *data* at *offset*, in as many calls as needed.

    Raises:
        OSError: it cannot be written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
