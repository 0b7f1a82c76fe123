"""Clearing a range of a device."""

from __future__ import annotations

from .device import Device

_CHUNK = 1 << 20


def clear(device: Device, offset: int, length: int) -> None:
    """Make *length* bytes of *device* at *offset* read as zeros. What reads as zeros already is not written: holes stay holes.

    Raises:
        DiskImageError: the range is not wholly inside the device, or cannot be read or written.
    """
    for start, size in device.data_extents(offset, length):
        for chunk in range(start, start + size, _CHUNK):
            found = device.read(chunk, min(_CHUNK, start + size - chunk))
            if found.count(0) != len(found):
                device.write(chunk, bytes(len(found)))
