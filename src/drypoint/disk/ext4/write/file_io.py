"""libext2fs on a file: completing reads and writes that the system call only did in part.

If a call was interrupted (EINTR) or wrote too little, the library writes once more and then gives up. Its channel has functions
for that case (read_error and write_error in lib/ext2fs/ext2_io.h, called by unix_io.c), which do the rest here. For single
words of the superblock it does not call them; so it must write the whole superblock.
"""

from __future__ import annotations

import os
from typing import Any

from ....errors import DiskImageError
from ...host.read_write import write_all
from .bindings import Library


class FileIo:
    """Handlers on the channel of an open file system; it must live until the library has closed that.

    Args:
        channel: the library's, from its I/O manager for files.
        fd: the same file, open for reading and writing.
        offset: the start of the file system in it, in bytes.
        name: for messages.
    """

    def __init__(self, library: Library, channel: Any, fd: int, offset: int, name: str) -> None:
        self._ffi = ffi = library.ffi
        self._fd = fd
        self._offset = offset
        self._name = name
        self.failure: BaseException | None = None
        """The first exception of reading or writing that was not raised yet."""
        fields = dict(ffi.typeof("struct struct_io_channel").fields)
        self._callbacks = [
            ffi.callback(fields[name].type, function, error=1, onerror=self._failed)
            for name, function in (("read_error", self._read), ("write_error", self._write))
        ]
        channel.read_error, channel.write_error = self._callbacks
        self._manager = ffi.new("struct struct_io_manager *", channel.manager[0])
        self._manager.write_byte = ffi.NULL
        channel.manager = self._manager

    def raise_failure(self) -> None:
        """Raise the exception of reading or writing, once."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _read(self, channel: Any, block: int, count: int, data: Any, size: int, actual: int, error: int) -> int:
        if size != _length(channel, count):
            return error
        place = self._offset + block * int(channel.block_size)
        target = memoryview(self._ffi.buffer(data, size))
        while target:
            try:
                done = os.preadv(self._fd, [target], place)
            except OSError as failure:
                raise DiskImageError(f"cannot read {self._name}: {failure.strerror}") from failure
            if not done:
                return error
            target = target[done:]
            place += done
        return 0

    def _write(self, channel: Any, block: int, count: int, data: Any, size: int, actual: int, error: int) -> int:
        if size != _length(channel, count):
            # The rest of a write of unaligned memory, which only happens with O_DIRECT.
            return error
        try:
            write_all(self._fd, self._ffi.buffer(data, size), self._offset + block * int(channel.block_size))
        except OSError as failure:
            raise DiskImageError(f"cannot write {self._name}: {failure.strerror}") from failure
        return 0

    def _failed(self, _: object, error: BaseException, __: object) -> None:
        # An interrupt, too, which the library cannot pass on.
        if self.failure is None:
            self.failure = error


def _length(channel: Any, count: int) -> int:
    """The length in bytes of a count of blocks, or, if negative, of bytes."""
    return -count if count < 0 else count * int(channel.block_size)
