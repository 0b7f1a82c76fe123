"""libext2fs on a :class:`drypoint.disk.Device` that is not contiguous in a file.

The library reads and writes through a table of functions, its I/O manager. This one calls the device; it caches no block, and
copies as little as possible. Layouts: struct_io_manager and struct_io_channel in e2fsprogs' lib/ext2fs/ext2_io.h, the same from
1.43 to 1.47. The functions left out are optional for the library.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from ...clear import clear
from ...device import Device
from .bindings import EXT2_ET_MAGIC_IO_CHANNEL, EXT2_ET_MAGIC_IO_MANAGER, Library

_FIRST_BLOCK_SIZE = 1024


class DeviceIo:
    """An I/O manager for one file system on *device*.

    It must live until the library has closed the file system, which has pointers into it. An exception of *device* becomes an
    error code inside the library; the exception itself is in :attr:`failure`.
    """

    def __init__(self, library: Library, device: Device) -> None:
        self._ffi = library.ffi
        self._device = device
        self.failure: BaseException | None = None
        """The device's first exception that was not raised yet."""
        self._channel = self._ffi.new("struct struct_io_channel *")
        self._name = self._ffi.new("char[]", b"drypoint")
        # The superblock counts all bytes ever written; the library asks for them at the end.
        self._stats = self._ffi.new("struct struct_io_stats *")
        self._stats.num_fields = 2
        self._manager = self._ffi.new("struct struct_io_manager *")
        # cffi frees a callback with its Python object; the structure alone does not keep it alive.
        self._callbacks: list[Any] = []
        self._fill()

    @property
    def manager(self) -> Any:
        """The table for ext2fs_open2."""
        return self._manager

    def raise_failure(self) -> None:
        """Raise the device's exception, once."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _fill(self) -> None:
        manager = self._manager
        manager.magic = EXT2_ET_MAGIC_IO_MANAGER
        manager.name = self._name
        functions: dict[str, Callable[..., None]] = {
            "open": self._open,
            "close": self._close,
            "set_blksize": self._set_block_size,
            "read_blk": self._read,
            "write_blk": self._write,
            "read_blk64": self._read,
            "write_blk64": self._write,
            "flush": self._flush,
            "zeroout": self._zero_out,
            "get_stats": self._get_stats,
            "write_byte": self._write_bytes,
        }
        fields = dict(self._ffi.typeof("struct struct_io_manager").fields)
        for name, function in functions.items():
            setattr(manager, name, self._callback(fields[name].type, function))

    def _callback(self, signature: Any, function: Callable[..., None]) -> Any:
        """*function* as a C callback: 0 if it returns, EIO if it raises."""

        def call(*arguments: Any) -> int:
            try:
                function(*arguments)
            except BaseException as error:  # noqa: BLE001 - no exception can cross C; it is raised again behind it
                self._keep(error)
                return errno.EIO
            return 0

        def failed(_: object, error: BaseException, __: object) -> None:
            # An interrupt may arrive between the lines of call.
            self._keep(error)

        callback = self._ffi.callback(signature, call, error=errno.EIO, onerror=failed)
        self._callbacks.append(callback)
        return callback

    def _keep(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error

    def _open(self, name: Any, flags: int, channel: Any) -> None:
        opened = self._channel
        opened.magic = EXT2_ET_MAGIC_IO_CHANNEL
        opened.manager = self._manager
        opened.name = self._name
        opened.block_size = _FIRST_BLOCK_SIZE
        opened.refcount = 1
        channel[0] = opened

    def _close(self, channel: Any) -> None:
        """Nothing to do: this object owns the memory, and the caller the device."""

    def _set_block_size(self, channel: Any, block_size: int) -> None:
        channel.block_size = block_size

    def _read(self, channel: Any, block: int, count: int, data: Any) -> None:
        length = _length(channel, count)
        self._ffi.memmove(data, self._device.read(block * channel.block_size, length), length)

    def _write(self, channel: Any, block: int, count: int, data: Any) -> None:
        length = _length(channel, count)
        self._stats.bytes_written += length
        self._device.write(block * channel.block_size, memoryview(self._ffi.buffer(data, length)))

    def _write_bytes(self, channel: Any, offset: int, count: int, data: Any) -> None:
        self._device.write(offset, memoryview(self._ffi.buffer(data, count)))

    def _zero_out(self, channel: Any, block: int, count: int) -> None:
        clear(self._device, block * channel.block_size, count * channel.block_size)

    def _get_stats(self, channel: Any, stats: Any) -> None:
        stats[0] = self._stats

    def _flush(self, channel: Any) -> None:
        """Nothing is buffered."""


def _length(channel: Any, count: int) -> int:
    """The length in bytes of a count of blocks, or, if negative, of bytes."""
    return -count if count < 0 else count * int(channel.block_size)
