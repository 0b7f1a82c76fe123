"""The free blocks of the ext file systems in a disk image.

Format: block groups and their bitmaps as in the kernel's Documentation/filesystems/ext4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...errors import DiskImageError
from ..device import Device, Window
from ..ext4.read.blocks import Volume
from ..tables.partitions import ProbedPartition, probe_partitions
from ..tables.table_reading import read_table

_BLOCK_UNINIT = 0x2
_FREE_RUN = re.compile("0+")


def free_ranges(device: Device) -> Iterator[tuple[int, int]]:
    """The (start, end) byte ranges of the disk image *device* that are free in its ext file systems, in order.

    Partitions that cannot be read or hold another file system yield nothing.
    """
    try:
        probed = probe_partitions(device, read_table(device))
    except DiskImageError:
        return
    for one in sorted(probed, key=lambda item: item.partition.start):
        if one.filesystem is not None and one.filesystem.kind.is_ext:
            yield from _free_in(device, one)


def _free_in(device: Device, probed: ProbedPartition) -> Iterator[tuple[int, int]]:
    start = probed.partition.start
    try:
        volume = Volume(Window(device, start, probed.partition.size))
        if volume.superblock.has("bigalloc"):
            # Its bitmaps count clusters.
            return
        metadata = _metadata(volume)
        for number in range(volume.superblock.groups_count):
            for first, end in _free_in_group(volume, number, metadata):
                yield start + first * volume.superblock.block_size, start + end * volume.superblock.block_size
    except DiskImageError:
        # A damaged file system may call blocks free that are in use.
        return


def _metadata(volume: Volume) -> dict[int, list[tuple[int, int]]]:
    """By group, the (first, end) blocks in it that hold some group's bitmaps and inodes."""
    superblock = volume.superblock
    inode_blocks = -(-superblock.inodes_per_group * superblock.inode_size // superblock.block_size)
    found: dict[int, list[tuple[int, int]]] = {}
    for group in volume.groups():
        for first, count in ((group.block_bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, inode_blocks)):
            place, end = first, first + count
            while place < end:
                number = (place - superblock.first_data_block) // superblock.blocks_per_group
                until = min(end, superblock.first_data_block + (number + 1) * superblock.blocks_per_group)
                found.setdefault(number, []).append((place, until))
                place = until
    return found


def _free_in_group(
    volume: Volume, number: int, metadata: dict[int, list[tuple[int, int]]]
) -> Iterator[tuple[int, int]]:
    superblock = volume.superblock
    base = superblock.first_data_block + number * superblock.blocks_per_group
    count = min(superblock.blocks_per_group, superblock.blocks_count - base)
    group = volume.group(number)
    if group.flags & _BLOCK_UNINIT:
        # Its bitmap was never written. All blocks are free, except bitmaps and inodes in this group, and copies of the
        # superblock, which are not holes.
        place = base
        for first, end in sorted(metadata.get(number, ())):
            if place < first:
                yield place, first
            place = max(place, end)
        if place < base + count:
            yield place, base + count
        return
    bitmap = volume.read(group.block_bitmap, 1, f"the block bitmap of group {number}")
    # As text, lowest bit first, for exactly the group's blocks.
    bits = format(int.from_bytes(bitmap, "little"), f"0{8 * len(bitmap)}b")[::-1][:count]
    for run in _FREE_RUN.finditer(bits):
        yield base + run.start(), base + run.end()
