"""Moving a range of a disk image inside it: by moving the file's blocks where the file system can, else by copying.

Either way the result is the same to the byte. Holes stay holes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from ...errors import DiskImageError
from ..device import Device, FileDevice
from ..host.fallocate import collapse_range, insert_range, punch_hole

CHUNK = 1 << 20
# Holes on both sides are skipped by this much at once.
STRIDE = 256 << 20


class Move(msgspec.Struct, frozen=True):
    """Move *length* bytes at *offset* up by *delta* bytes, or down if it is negative.

    The vacated part of the old range reads as zeros, and so does everything between the old and the new range if they move by
    more than their length. Every other byte stays.
    """

    offset: int
    length: int
    delta: int


def move_range(device: Device, move: Move) -> None:
    """Execute *move*; both ranges must be inside the device.

    Raises:
        DiskImageError: they are not, or the device cannot be read or written.
    """
    first, last = sorted((move.offset, move.offset + move.delta))
    if first < 0 or last + move.length > device.size:
        raise DiskImageError(
            f"{device.name}: {move.length} bytes at {move.offset} cannot move by {move.delta}: it has {device.size} bytes"
        )
    if move.length == 0 or move.delta == 0:
        return
    if isinstance(device, FileDevice) and _move_blocks(device, move):
        return
    copy_by_chunks(device, move)
    if move.delta > 0:
        clear_range(device, move.offset, move.delta)
    else:
        clear_range(device, move.offset + move.delta + move.length, -move.delta)


def clear_range(device: Device, offset: int, length: int) -> None:
    """Make a range read as zeros, with holes where possible. Holes stay holes.

    Raises:
        DiskImageError: the device cannot be read or written.
    """
    if length <= 0 or not _has_data(device, offset, length):
        return
    if isinstance(device, FileDevice) and not device.is_block_device:
        try:
            if punch_hole(device.fileno(), offset, length):
                return
        except OSError as error:
            raise DiskImageError(
                f"cannot clear {length} bytes at {offset} of {device.name}: {error.strerror}"
            ) from error
    for extent, size in device.data_extents(offset, length):
        for chunk in range(extent, extent + size, CHUNK):
            found = device.read(chunk, min(CHUNK, extent + size - chunk))
            if found.count(0) != len(found):
                device.write(chunk, bytes(len(found)))


def _move_blocks(device: FileDevice, move: Move) -> bool:
    if device.is_block_device:
        return False
    fd = device.fileno()
    unit = os.fstatvfs(fd).f_bsize
    if unit <= 0 or move.delta % unit:
        return False
    try:
        return _move_blocks_up(device, move, unit) if move.delta > 0 else _move_blocks_down(device, move, unit)
    except OSError as error:
        raise DiskImageError(
            f"cannot move {move.length} bytes at {move.offset} of {device.name}: {error.strerror}"
        ) from error


def _move_blocks_up(device: FileDevice, move: Move, unit: int) -> bool:
    """Insert blocks before the range and remove as many after it, so that what follows stays.

    The range may begin and end inside a block: the parts of these blocks that must not move are written back.
    """
    fd, size = device.fileno(), device.size
    first = move.offset // unit * unit
    end = move.offset + move.length
    last = -(-end // unit) * unit
    head = device.read(first, move.offset - first)
    behind = min(last + move.delta, size)
    tail = device.read(end + move.delta, behind - end - move.delta)
    if not insert_range(fd, first, move.delta):
        return False
    if size <= last + move.delta:
        device.truncate(size)
    elif not collapse_range(fd, last + move.delta, move.delta):
        raise DiskImageError(f"the file system of {device.name} inserts blocks, but cannot remove them")
    _put_back(device, first, head)
    _put_back(device, first + move.delta, bytes(len(head)))
    _put_back(device, end + move.delta, tail)
    return True


def _move_blocks_down(device: FileDevice, move: Move, unit: int) -> bool:
    """Remove blocks before the range and insert as many after it."""
    fd, size, room = device.fileno(), device.size, -move.delta
    target = move.offset - room
    first = target // unit * unit
    end = target + move.length
    last = -(-end // unit) * unit
    head = device.read(first, target - first)
    behind = min(last + room, size)
    tail = device.read(end + room, behind - end - room)
    if not collapse_range(fd, first, room):
        return False
    if last < device.size and not insert_range(fd, last, room):
        raise DiskImageError(f"the file system of {device.name} removes blocks, but cannot insert them")
    device.extend(size)
    _put_back(device, first, head)
    _put_back(device, end, bytes(min(last, size) - end))
    _put_back(device, end + room, tail)
    return True


def _put_back(device: FileDevice, offset: int, data: bytes) -> None:
    if data and device.read(offset, len(data)) != data:
        device.write(offset, data)


def copy_by_chunks(device: Device, move: Move) -> None:
    """Copy chunk by chunk, from the end at which nothing unread is overwritten."""
    for offset, size in _strides(move.offset, move.length, STRIDE, move.delta > 0):
        if not _has_data(device, offset, size) and not _has_data(device, offset + move.delta, size):
            continue
        for chunk, chunk_size in _strides(offset, size, CHUNK, move.delta > 0):
            data = device.read(chunk, chunk_size) if _has_data(device, chunk, chunk_size) else b""
            if data.count(0) == len(data):
                clear_range(device, chunk + move.delta, chunk_size)
            else:
                device.write(chunk + move.delta, data)


def _strides(offset: int, length: int, step: int, backwards: bool) -> Iterator[tuple[int, int]]:
    starts = range(offset, offset + length, step)
    for start in reversed(starts) if backwards else starts:
        yield start, min(step, offset + length - start)


def _has_data(device: Device, offset: int, length: int) -> bool:
    return next(iter(device.data_extents(offset, length)), None) is not None
