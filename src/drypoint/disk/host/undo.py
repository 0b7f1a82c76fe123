"""A device whose changes can be undone, for block devices, which are too large to copy."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...concurrency.uninterrupted import uninterrupted
from ...errors import DiskImageError, OutputError
from ...progress import SILENT, Progress
from ..device import FileDevice
from .undo_log import UndoLog, find_log, new_log, put_back

_CHUNK = 1 << 20


class UndoDevice:
    """Reads and writes *device*; the old content of a range goes to *log* before the first write to it.

    Its location is None, so that no program bypasses it.
    """

    def __init__(self, device: FileDevice, log: UndoLog) -> None:
        self._device = device
        self._log = log
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
        try:
            for offset, data in self._log.records():
                self._device.write(offset, data)
        except OSError as error:
            raise DiskImageError(f"cannot read what {self.name} held: {error.strerror}") from error

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
                self._log.keep(offset, self._device.read(offset, min(_CHUNK, end - offset)))
        except OSError as error:
            raise OutputError(
                f"cannot keep what {self.name} holds, to put it back if anything fails: {error.strerror}; set TMPDIR to a "
                "directory with more space"
            ) from error


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
def undoing(path: Path, directory: Path, progress: Progress = SILENT) -> Iterator[UndoDevice]:
    """Let the block change the block device *path*; if it fails, the device gets its old content back.

    The device must not be in use: none of its partitions may be mounted. Overwritten data is kept in a file in *directory*,
    which needs as much space as is written. When the process is killed that file stays: :func:`restore_device` puts it back. A
    loss of power may leave it incomplete.

    Args:
        progress: is given warnings of what went wrong when the change was whole already.

    Raises:
        OutputError: the device is in use, or there is no space in *directory*.
        DiskImageError: it cannot be opened, or can no longer be written.
    """
    claim = _claim(path)
    try:
        with FileDevice(path, writable=True) as device, new_log(device, directory) as (log, kept):
            undo = UndoDevice(device, log)
            try:
                yield undo
                _flush(device)
            except BaseException as error:
                try:
                    with uninterrupted():
                        undo.roll_back()
                        _flush(device)
                except DiskImageError as second:
                    raise DiskImageError(
                        f"{path} could not be put back as it was, and is damaged now: {second}. {kept} holds what it was "
                        f"before; drypoint restore {path} tries again. What failed first: {error}"
                    ) from error
                _remove(kept, progress)
                raise
            _remove(kept, progress)
    finally:
        os.close(claim)


def restore_device(path: Path) -> Path:
    """Put back what the block device *path* held before a run changed it in place that was killed; which file kept that.

    Raises:
        OutputError: the device is in use, or there is nothing to put back.
        DiskImageError: what was kept cannot be read, or the device cannot be written.
    """
    claim = _claim(path)
    try:
        with FileDevice(path, writable=True) as device:
            device.lock(exclusive=True)
            found = find_log(device)
            if found is None:
                raise OutputError(
                    f"there is nothing to put back on {path}: neither TMPDIR nor /var/tmp has a file *.drypoint-undo of it "
                    "that belongs to you"
                )
            with uninterrupted():
                put_back(found, device)
            found.unlink(missing_ok=True)
            return found
    finally:
        os.close(claim)


def _flush(device: FileDevice) -> None:
    try:
        os.fsync(device.fileno())
    except OSError as error:
        raise DiskImageError(f"cannot write {device.name}: {error.strerror}") from error


def _remove(kept: Path, progress: Progress) -> None:
    try:
        kept.unlink(missing_ok=True)
    except OSError as error:
        progress.note(f"warning: {kept} is not needed any more, but cannot be removed: {error.strerror}. Remove it")
