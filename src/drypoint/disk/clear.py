"""Zeros over what a device holds."""

from __future__ import annotations

from .device import Device

_CHUNK = 1 << 20


def clear(device: Device, offset: int, length: int) -> None:
    """Make a range of *device* read as zeros; what does so already is not written, so that holes stay holes.

    Raises:
        DiskImageError: the range is not wholly inside the device, or cannot be read or written.
    """
    for start, size in device.data_extents(offset, length):
        for chunk in range(start, start + size, _CHUNK):
            found = device.read(chunk, min(_CHUNK, start + size - chunk))
            if found.count(0) != len(found):
                device.write(chunk, bytes(len(found)))
