"""The undo log of a block device: the old content of ranges that were changed, and how the next run finds it.

A line of JSON that describes the device, then records: offset, length and CRC-32 of what follows (little endian), and the
bytes. Each range is kept once, before it is first written, so that the records can be restored in any order, any number of
times. A record is complete before the device is touched; a torn one at the end belongs to a write that never started.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ...decoders import json_decoder
from ...errors import DiskImageError, OutputError
from ..device import FileDevice
from .locks import try_lock
from .read_write import write_all
from .scratch import scratch_directory

_SUFFIX = ".drypoint-undo"
_RECORD = struct.Struct("<QQI")
_LONGEST_RECORD = 1 << 20
_LONGEST_HEAD = 64 << 10
_COMMON_DIRECTORY = Path("/var/tmp")
# Serial number of an MBR; GUID of a GPT, for sectors of 512 and 4,096 bytes; UUID of an ext file system.
_MARKS = ((440, 4, b""), (512 + 56, 16, b""), (1024 + 0x68, 16, b""), (4096 + 56, 16, b"EFI PART"))


class _Head(msgspec.Struct, frozen=True):
    device: str
    size: int
    identity: str


_HEAD_DECODER = json_decoder(_Head)


class UndoLog:
    """Stores ranges of a device in the empty file *fd*, and reads them back."""

    def __init__(self, fd: int, end: int = 0) -> None:
        self._fd = fd
        self._start = self._end = end

    @property
    def size(self) -> int:
        """Bytes of the log."""
        return self._end - self._start

    def keep(self, offset: int, data: bytes) -> None:
        """Store *data*, at most 1 MiB, which the device holds at *offset*.

        Raises:
            OSError: it cannot be written.
        """
        write_all(self._fd, _RECORD.pack(offset, len(data), zlib.crc32(data)) + data, self._end)
        self._end += _RECORD.size + len(data)

    def records(self) -> Iterator[tuple[int, bytes]]:
        """The offset and the bytes of each range.

        Raises:
            OSError: the file cannot be read.
        """
        position = self._start
        while len(head := os.pread(self._fd, _RECORD.size, position)) == _RECORD.size:
            offset, length, checksum = _RECORD.unpack(head)
            if length > _LONGEST_RECORD:
                return
            data = os.pread(self._fd, length, position + _RECORD.size)
            if len(data) != length or zlib.crc32(data) != checksum:
                return
            yield offset, data
            position += _RECORD.size + length


@contextmanager
def new_log(device: FileDevice, directory: Path) -> Iterator[tuple[UndoLog, Path]]:
    """A new log for *device* in *directory*, which stays when the block ends: the caller removes it.

    Raises:
        OutputError: it cannot be made.
    """
    path = directory / f"{Path(device.name).name}.{secrets.token_hex(4)}{_SUFFIX}"
    head = msgspec.json.encode(_Head(device.name, device.size, _identity(device))) + b"\n"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(f"cannot make a temporary file in {directory}: {error.strerror}") from error
    try:
        try_lock(fd)
        try:
            write_all(fd, head, 0)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise OutputError(f"cannot write {path}: {error.strerror}; set TMPDIR to another directory") from error
        yield UndoLog(fd, len(head)), path
    finally:
        os.close(fd)


def find_log(device: FileDevice) -> Path | None:
    """The log of *device* from a killed run of this user, in ``TMPDIR`` or /var/tmp, or None."""
    identity = None
    for path in all_logs():
        with _opened(path) as fd:
            head = None if fd is None else _head(fd)
            if head is None or head[0].size != device.size:
                continue
            if identity is None:
                identity = _identity(device)
            if head[0].identity == identity:
                return path
    return None


def all_logs() -> tuple[Path, ...]:
    """All logs in ``TMPDIR`` and /var/tmp."""
    found: list[Path] = []
    for directory in dict.fromkeys((scratch_directory(), _COMMON_DIRECTORY)):
        with suppress(OSError):
            found += sorted(path for path in directory.iterdir() if path.name.endswith(_SUFFIX))
    return tuple(found)


def put_back(path: Path, device: FileDevice) -> None:
    """Restore *device* from the log *path*.

    Raises:
        DiskImageError: the log cannot be read, or the device cannot be written.
    """
    with _opened(path) as fd:
        head = None if fd is None else _head(fd)
        if fd is None or head is None:
            raise DiskImageError(f"{path} cannot be read, or another run uses it")
        try:
            for offset, data in UndoLog(fd, head[1]).records():
                device.write(offset, data)
            os.fsync(device.fileno())
        except OSError as error:
            raise DiskImageError(f"cannot put {path} back on {device.name}: {error.strerror}") from error


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """The open log *path*; None if it is another user's, not a regular file, or in use by another run."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        status = os.fstat(fd)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        yield fd if ours and try_lock(fd) is not False else None
    finally:
        os.close(fd)


def _head(fd: int) -> tuple[_Head, int] | None:
    """The description of the device, and the offset of the first record; None if it is not a log."""
    line, newline, _ = os.pread(fd, _LONGEST_HEAD, 0).partition(b"\n")
    try:
        return (_HEAD_DECODER.decode(line), len(line) + 1) if newline else None
    except msgspec.MsgspecError:
        return None


def _identity(device: FileDevice) -> str:
    """A digest that identifies the medium and does not change while drypoint works on it."""
    marks = hashlib.sha256()
    for offset, length, magic in _MARKS:
        if offset + length <= device.size and (not magic or device.read(offset - 56, len(magic)) == magic):
            marks.update(device.read(offset, length))
    return marks.hexdigest()
