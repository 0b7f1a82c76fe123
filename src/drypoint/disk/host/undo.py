"""A device whose changes can be undone, for block devices, which are too large to copy."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ...concurrency.uninterrupted import uninterrupted
from ...errors import DiskImageError, OutputError
from ..device import FileDevice
from .scratch import nameless_file

_CHUNK = 1 << 20


class _Saved(msgspec.Struct, frozen=True):
    """*length* bytes of the device at *offset*, kept at *position* of the scratch file."""

    offset: int
    length: int
    position: int


class UndoDevice:
    """Reads and writes *device*; the old content of a range goes to the scratch file *fd* before the first write to it.

    Its location is None, so that no program bypasses it.
    """

    def __init__(self, device: FileDevice, fd: int) -> None:
        self._device = device
        self._fd = fd
        self._end = 0
        self._saved: list[_Saved] = []
        # The ranges that are kept, disjoint and in order: starts and ends.
        self._starts: list[int] = []
        self._ends: list[int] = []

    @property
    def size(self) -> int:
        return self._device.size

    @property
    def name(self) -> str:
        return self._device.name

    @property
    def location(self) -> None:
        return None

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return self._device.data_extents(offset, length)

    def read(self, offset: int, length: int) -> bytes:
        return self._device.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        length = memoryview(data).nbytes
        for start, end in self._missing(offset, offset + length):
            self._keep(start, end)
        self._note(offset, offset + length)
        self._device.write(offset, data)

    def extend(self, size: int) -> None:
        """See :meth:`FileDevice.extend`; always fails for a block device that is too small."""
        self._device.extend(size)

    def roll_back(self) -> None:
        """Restore everything that was overwritten.

        Raises:
            DiskImageError: the device can no longer be written.
        """
        for saved in reversed(self._saved):
            for done in range(0, saved.length, _CHUNK):
                data = os.pread(self._fd, min(_CHUNK, saved.length - done), saved.position + done)
                self._device.write(saved.offset + done, data)
        self._saved.clear()

    def _missing(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that are not kept yet."""
        index = max(bisect_right(self._starts, start) - 1, 0)
        position = start
        while position < end and index < len(self._starts):
            if self._starts[index] >= end:
                break
            if self._ends[index] > position:
                if self._starts[index] > position:
                    yield position, self._starts[index]
                position = self._ends[index]
            index += 1
        if position < end:
            yield position, end

    def _note(self, start: int, end: int) -> None:
        """Add a range to those that are kept; adjacent ranges are joined, so that a long write costs one entry."""
        first = bisect_right(self._starts, start)
        if first and self._ends[first - 1] >= start:
            first -= 1
            start = self._starts[first]
        last = first
        while last < len(self._starts) and self._starts[last] <= end:
            end = max(end, self._ends[last])
            last += 1
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def _keep(self, start: int, end: int) -> None:
        try:
            for offset in range(start, end, _CHUNK):
                data = self._device.read(offset, min(_CHUNK, end - offset))
                if os.pwrite(self._fd, data, self._end + offset - start) != len(data):
                    raise OutputError(f"cannot keep what {self.name} holds: the scratch file took only part of it")
        except OSError as error:
            raise OutputError(
                f"cannot keep what {self.name} holds, to put it back if anything fails: {error.strerror}; set TMPDIR to a "
                "directory with more room"
            ) from error
        last = self._saved[-1] if self._saved else None
        if last is not None and last.offset + last.length == start and last.position + last.length == self._end:
            self._saved[-1] = _Saved(last.offset, last.length + end - start, last.position)
        else:
            self._saved.append(_Saved(start, end - start, self._end))
        self._end += end - start


def check_unused(path: Path) -> None:
    """Check that the block device *path* can be opened as :func:`undoing` needs it.

    Raises:
        OutputError: it is in use, or may not be written.
    """
    os.close(_claim(path))


def _claim(path: Path) -> int:
    """The block device *path*, opened exclusively."""
    try:
        # O_EXCL on a block device fails if another program or a mounted file system has claimed it.
        return os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise OutputError(f"cannot change {path} in place: {error.strerror}") from error
        raise OutputError(
            f"cannot change {path} in place: it is in use. Unmount its partitions first, and mind that it is the right device"
        ) from error


@contextmanager
def undoing(path: Path, directory: Path) -> Iterator[UndoDevice]:
    """Let the block change the block device *path*; if it fails, the device gets its old content back.

    The device must not be in use: none of its partitions may be mounted. Overwritten data is kept in an unnamed file in
    *directory*, which needs as much space as is written. A power loss in between leaves the device incomplete.

    Raises:
        OutputError: the device is in use, or there is no space in *directory*.
        DiskImageError: it cannot be opened, or can no longer be written.
    """
    claim = _claim(path)
    try:
        with FileDevice(path, writable=True) as device, nameless_file(directory) as fd:
            undo = UndoDevice(device, fd)
            try:
                yield undo
                os.fsync(device.fileno())
            except BaseException as error:
                try:
                    with uninterrupted():
                        undo.roll_back()
                        os.fsync(device.fileno())
                except (DiskImageError, OSError) as second:
                    raise DiskImageError(
                        f"{path} could not be put back as it was, and is damaged now: {second}. What failed first: {error}"
                    ) from error
                raise
    finally:
        os.close(claim)
