"""Devices: random access to the bytes of a disk image file, and windows on it.

Offsets and lengths are in bytes. A device knows nothing of partitions or file systems.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..errors import DiskImageError
from .host.copies import data_extents
from .host.locks import lock_image


class Device(Protocol):
    """Bytes that can be read and written at any offset."""

    @property
    def size(self) -> int:
        """Current length in bytes."""

    @property
    def name(self) -> str:
        """Name for messages: a file's path, as the user gave it."""

    @property
    def location(self) -> tuple[Path, int] | None:
        """A file that holds the device's bytes contiguously, and the offset of the first; None if they are not contiguous.

        For programs and libraries that open files themselves. The path may be in /proc, and is valid as long as the device.
        """

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The (offset, length) runs of a range that may hold data, in order; everything between them reads as zeros."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly *length* bytes at *offset*.

        Raises:
            DiskImageError: the range is not wholly inside the device, or cannot be read.
        """

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write *data* at *offset*; the range must be inside the device.

        Raises:
            DiskImageError: the range is not wholly inside the device, or cannot be written.
        """


class GrowableDevice(Device, Protocol):
    """A device that can become larger."""

    def extend(self, size: int) -> None:
        """Make the device *size* bytes long; new bytes read as zeros. It never gets shorter.

        Raises:
            DiskImageError: it cannot grow so far.
        """


@runtime_checkable
class TrimmableDevice(GrowableDevice, Protocol):
    """A device that can become larger and smaller."""

    def truncate(self, size: int) -> None:
        """Truncate the device to *size* bytes; it never gets longer.

        Raises:
            DiskImageError: it cannot be cut.
        """


class FileDevice:
    """A regular file or a block device as a device. A context manager; the caller closes it.

    *name* is used in messages where the path would mean nothing to the user.
    """

    def __init__(self, path: Path, *, writable: bool = False, name: str | None = None) -> None:
        self._path = path
        self._name = str(path) if name is None else name
        try:
            # Non-blocking, or opening a FIFO would wait for a writer. No effect on files.
            self._fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise DiskImageError(f"cannot open {self._name}: {error.strerror}") from error
        mode = os.fstat(self._fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            os.close(self._fd)
            what = "a directory" if stat.S_ISDIR(mode) else "neither a file nor a block device"
            raise DiskImageError(f"{self._name} is not a disk image: it is {what}")
        self._is_block_device = stat.S_ISBLK(mode)
        self._padded_size = 0
        self._locks: list[int] = []

    @property
    def is_block_device(self) -> bool:
        """Whether this is a block device of the host, whose size cannot change, and not a file."""
        return self._is_block_device

    @property
    def size(self) -> int:
        return max(os.lseek(self._fd, 0, os.SEEK_END), self._padded_size)

    def pad(self, size: int) -> None:
        """Read as if zeros followed the file up to *size* bytes. The file itself stays as long as it is."""
        self._padded_size = size

    @property
    def name(self) -> str:
        return self._name

    @property
    def location(self) -> tuple[Path, int]:
        return self._path, 0

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        # A block device has no holes, and gives one run over everything.
        try:
            yield from data_extents(self._fd, offset, offset + length)
        except OSError as error:
            raise DiskImageError(f"cannot read {self._name}: {error.strerror}") from error

    def fileno(self) -> int:
        """The file descriptor, for calls that move bytes inside the kernel."""
        return self._fd

    def read(self, offset: int, length: int) -> bytes:
        chunks: list[bytes] = []
        position, left = offset, length
        while left:
            try:
                chunk = os.pread(self._fd, left, position)
            except OSError as error:
                raise DiskImageError(
                    f"cannot read {length} bytes at {offset} of {self._name}: {error.strerror}"
                ) from error
            if not chunk and position + left <= self._padded_size:
                chunk = bytes(left)
            if not chunk:
                raise DiskImageError(f"{self._name} ends at byte {position}, but {length} bytes at {offset} are needed")
            chunks.append(chunk)
            position += len(chunk)
            left -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        position = offset
        while view:
            try:
                written = os.pwrite(self._fd, view, position)
            except OSError as error:
                raise DiskImageError(
                    f"cannot write {len(view)} bytes at {position} of {self._name}: {error.strerror}"
                ) from error
            view = view[written:]
            position += written

    def extend(self, size: int) -> None:
        """Make the file *size* bytes long, sparsely; it never gets shorter.

        Raises:
            DiskImageError: the file cannot grow, or is a block device, which never can.
        """
        missing = size - os.lseek(self._fd, 0, os.SEEK_END)
        if missing <= 0:
            return
        if self.is_block_device:
            raise DiskImageError(
                f"{self._name} is a block device of {self.size} bytes, but {size} are needed: {missing} are missing, and a "
                "device cannot grow; use a larger one"
            )
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise DiskImageError(f"cannot grow {self._name} to {size} bytes: {error.strerror}") from error

    def truncate(self, size: int) -> None:
        """Truncate the file to *size* bytes; it never gets longer.

        Raises:
            DiskImageError: the file cannot be truncated; a block device never can.
        """
        if size >= self.size:
            return
        self._padded_size = 0
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise DiskImageError(f"cannot cut {self._name} down to {size} bytes: {error.strerror}") from error

    def lock(self, *, exclusive: bool) -> None:
        """Keep other runs from changing it, or from using it at all (*exclusive*), until it is closed.

        Raises:
            OutputError: *exclusive*, and another run uses it, or it is mounted through a loop device.
            DiskImageError: another run is changing it, or has just replaced it.
        """
        lock_image(self._fd, self._name, self._locks, exclusive=exclusive)
        try:
            is_same = os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError as error:
            raise DiskImageError(f"cannot open {self._name}: {error.strerror}") from error
        if not is_same:
            raise DiskImageError(f"{self._name} was replaced by another file just now; try again")

    def close(self) -> None:
        os.close(self._fd)
        for fd in self._locks:
            os.close(fd)

    def __enter__(self) -> FileDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Window:
    """A range of another device, as a device.

    Args:
        name: for messages; default: the device's name, with the offset.
    """

    def __init__(self, device: Device, offset: int, size: int, *, name: str | None = None) -> None:
        if offset < 0 or size < 0 or offset + size > device.size:
            raise DiskImageError(
                f"{device.name}: bytes {offset} to {offset + size} are needed, but it has {device.size} bytes"
            )
        self._device = device
        self._offset = offset
        self._size = size
        self._name = name

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        if self._name is not None:
            return self._name
        return f"{self._device.name} (offset {self._offset})" if self._offset else self._device.name

    @property
    def location(self) -> tuple[Path, int] | None:
        location = self._device.location
        return None if location is None else (location[0], location[1] + self._offset)

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        self._check(offset, length)
        for start, size in self._device.data_extents(self._offset + offset, length):
            yield start - self._offset, size

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return self._device.read(self._offset + offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._check(offset, memoryview(data).nbytes)
        self._device.write(self._offset + offset, data)

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self._size:
            raise DiskImageError(
                f"bytes {offset} to {offset + length} lie outside the {self._size} bytes of {self.name}"
            )
