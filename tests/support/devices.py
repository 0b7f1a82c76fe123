"""Devices for tests: bytes in memory, and disk images without a location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drypoint.disk import Device, FileDevice
from drypoint.errors import DiskImageError

_STEP = 512


class PatchedDevice:
    """A read-only device of *size* bytes that holds *parts* at their offsets, and zeros elsewhere.

    Attributes:
        reads: the (offset, length) of each read so far.
    """

    def __init__(self, size: int, parts: Mapping[int, bytes | bytearray]) -> None:
        self.size = size
        self.reads: list[tuple[int, int]] = []
        self._parts = parts

    @property
    def bytes_read(self) -> int:
        return sum(length for _, length in self.reads)

    @property
    def name(self) -> str:
        return "memory"

    @property
    def location(self) -> None:
        return None

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        yield offset, length

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DiskImageError(f"bytes {offset} to {offset + length} of {self.size}")
        self.reads.append((offset, length))
        content = bytearray(length)
        for start, part in self._parts.items():
            first, last = max(start, offset), min(start + len(part), offset + length)
            if first < last:
                content[first - offset : last - offset] = part[first - start : last - start]
        return bytes(content)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError(f"{len(data)} bytes are written at {offset} of what is only to be read")


class MemoryDevice(PatchedDevice):
    """*content* as a device. Zeros may be holes.

    Attributes:
        content: its current content.
    """

    def __init__(self, content: bytes | bytearray, *, writable: bool = False) -> None:
        self.content = bytearray(content)
        self._writable = writable
        super().__init__(len(content), {0: self.content})

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        for start in range(offset, offset + length, _STEP):
            size = min(_STEP, offset + length - start)
            if any(self.content[start : start + size]):
                yield start, size

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if not self._writable:
            super().write(offset, data)
        if offset < 0 or offset + len(data) > self.size:
            raise AssertionError(f"{len(data)} bytes are written at {offset}, outside of {self.size}")
        self.content[offset : offset + len(data)] = data


class OpaqueDevice:
    """*device* as if its bytes were not contiguous in a file, so that no program can open it.

    Attributes:
        written: the number of bytes written.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.written = 0

    @property
    def size(self) -> int:
        return self._device.size

    @property
    def name(self) -> str:
        return "the inner disk image"

    @property
    def location(self) -> None:
        return None

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return self._device.data_extents(offset, length)

    def read(self, offset: int, length: int) -> bytes:
        return self._device.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.written += len(data)
        self._device.write(offset, data)


class OpaqueDisk(OpaqueDevice):
    """An :class:`OpaqueDevice` of a disk image that can grow and shrink."""

    def __init__(self, disk: FileDevice) -> None:
        super().__init__(disk)
        self._disk = disk

    def extend(self, size: int) -> None:
        self._disk.extend(size)

    def truncate(self, size: int) -> None:
        self._disk.truncate(size)
