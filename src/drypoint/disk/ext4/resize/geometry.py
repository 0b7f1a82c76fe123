"""The arithmetic of block groups, pure: the size that an ext file system needs to hold more, and its least size.

The layout rules are those of the kernel's Documentation/filesystems/ext4 (block groups, sparse_super, meta_bg); growth
follows resize2fs (a last group that is too small is left out, the space kept for group descriptors shrinks as they grow, the
reserve keeps its share).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ....errors import FilesystemError
from ...device import Device
from ..write.superblock import Superblock, load_superblock
from ..write.supported_features import (
    COMPAT_RESIZE_INODE,
    COMPAT_SPARSE_SUPER2,
    INCOMPAT_64BIT,
    INCOMPAT_META_BG,
    RO_COMPAT_BIGALLOC,
    RO_COMPAT_SPARSE_SUPER,
)

# resize2fs drops a last group that would gain fewer blocks than this.
_LEAST_GAIN = 50
_MAX_INODES = 0xFFFFFFFF


class Geometry(msgspec.Struct, frozen=True):
    """The superblock's numbers that growth depends on; blocks are *block_size* bytes, *last_write* seconds since 1970."""

    block_size: int
    blocks_count: int
    reserved_blocks: int
    free_blocks: int
    inodes_count: int
    free_inodes: int
    first_data_block: int
    blocks_per_group: int
    inodes_per_group: int
    inode_size: int
    descriptor_size: int
    reserved_gdt_blocks: int
    first_meta_bg: int
    last_write: int
    needs_recovery: bool
    is_clean: bool
    feature_compat: int
    feature_incompat: int
    feature_ro_compat: int

    @property
    def size(self) -> int:
        """Bytes that the file system spans."""
        return self.blocks_count * self.block_size


class Capacity(msgspec.Struct, frozen=True):
    """The capacity of a file system at some size; *free_blocks* includes the reserved ones."""

    blocks_count: int
    free_blocks: int
    reserved_blocks: int
    free_inodes: int


def read_geometry(device: Device) -> Geometry:
    """Read the primary superblock of the ext file system at the start of *device*.

    Raises:
        FilesystemError: there is none, or its numbers make no sense.
        DiskImageError: the device cannot be read.
    """
    return geometry_of(load_superblock(device, device.name), device.name)


def geometry_of(superblock: Superblock, where: str) -> Geometry:
    """The numbers of *superblock*, *where* in messages.

    Raises:
        FilesystemError: they make no sense.
    """
    geometry = Geometry(
        block_size=superblock.block_size,
        blocks_count=superblock.blocks_count,
        reserved_blocks=superblock.reserved_blocks,
        free_blocks=superblock.free_blocks,
        inodes_count=superblock.inodes_count,
        free_inodes=superblock.free_inodes,
        first_data_block=superblock.first_data_block,
        blocks_per_group=superblock.blocks_per_group,
        inodes_per_group=superblock.inodes_per_group,
        inode_size=superblock.inode_size,
        descriptor_size=superblock.descriptor_size,
        reserved_gdt_blocks=superblock.reserved_gdt_blocks,
        first_meta_bg=superblock.first_meta_bg,
        last_write=superblock.last_write,
        needs_recovery=superblock.needs_recovery,
        is_clean=superblock.is_clean,
        feature_compat=superblock.feature_compat,
        feature_incompat=superblock.feature_incompat,
        feature_ro_compat=superblock.feature_ro_compat,
    )
    _check(geometry, where)
    return geometry


def capacity_at(geometry: Geometry, blocks_count: int) -> Capacity:
    """The capacity after resize2fs resizes *geometry* to *blocks_count* blocks; the result may have a few blocks less.

    Exact for growth. After shrinking, more may be in use than this says: extents that are split need blocks themselves.
    """
    old_groups = _groups(geometry, geometry.blocks_count)
    groups = _groups(geometry, blocks_count)
    descriptor_blocks = _descriptor_blocks(geometry, groups)
    kept = _descriptor_room(geometry, descriptor_blocks)
    last = (blocks_count - geometry.first_data_block) % geometry.blocks_per_group
    table_blocks = 2 + _inode_blocks(geometry)
    overhead = table_blocks + (1 + kept if _has_super(geometry, groups - 1) else 0)
    is_resized = groups > old_groups or blocks_count < geometry.blocks_count
    if groups > 1 and is_resized and last and last < overhead + _LEAST_GAIN:
        blocks_count -= last
        groups -= 1
        descriptor_blocks = _descriptor_blocks(geometry, groups)
        kept = _descriptor_room(geometry, descriptor_blocks)
    metadata = (groups - old_groups) * table_blocks
    if geometry.feature_incompat & INCOMPAT_META_BG:
        metadata += _meta_bg_blocks(geometry, groups) - _meta_bg_blocks(geometry, old_groups)
        metadata += _backups(geometry, groups) - _backups(geometry, old_groups)
    else:
        old_kept = _descriptor_blocks(geometry, old_groups) + geometry.reserved_gdt_blocks
        metadata += _backups(geometry, groups) * (1 + kept) - _backups(geometry, old_groups) * (1 + old_kept)
    return Capacity(
        blocks_count=blocks_count,
        free_blocks=geometry.free_blocks + blocks_count - geometry.blocks_count - metadata,
        reserved_blocks=-(-geometry.reserved_blocks * blocks_count // geometry.blocks_count),
        free_inodes=geometry.free_inodes + (groups - old_groups) * geometry.inodes_per_group,
    )


def needed_size(geometry: Geometry, blocks_needed: int, inodes_needed: int) -> int:
    """The least size in bytes at which *blocks_needed* blocks and *inodes_needed* inodes are free.

    Blocks reserved for root do not count as free: the device's own services need them when the disk is full. A caller may
    round the result up. Never less than the current size.

    Raises:
        FilesystemError: the file system cannot grow so far, or uses bigalloc or sparse_super2.
    """
    if geometry.feature_ro_compat & RO_COMPAT_BIGALLOC:
        raise FilesystemError("an ext4 file system with the feature bigalloc cannot be grown; make it without")
    if geometry.feature_compat & COMPAT_SPARSE_SUPER2:
        raise FilesystemError("an ext4 file system with the feature sparse_super2 cannot be grown; make it without")

    def suffices(blocks_count: int) -> bool:
        capacity = capacity_at(geometry, blocks_count)
        return capacity.free_inodes >= inodes_needed and (
            capacity.free_blocks - capacity.reserved_blocks >= blocks_needed + _reserve_step(geometry)
        )

    if geometry.free_inodes >= inodes_needed and geometry.free_blocks - geometry.reserved_blocks >= blocks_needed:
        return geometry.size
    largest = _largest(geometry)
    too_small, enough = geometry.blocks_count, geometry.blocks_count + geometry.blocks_per_group
    # By doubling, not down from the largest: where every group has a copy of all descriptors, the copies fill up a large
    # file system, so that the largest has less space than a medium one.
    while not suffices(min(enough, largest)):
        if enough >= largest:
            raise FilesystemError(
                f"the ext4 file system of {geometry.size} bytes cannot be grown far enough for {blocks_needed} more blocks "
                f"and {inodes_needed} more inodes: its layout allows {largest * geometry.block_size} bytes at most; "
                "make it larger, or with fewer bytes an inode, to begin with"
            )
        too_small, enough = enough, enough * 2
    enough = min(enough, largest)
    return _least(too_small, enough, suffices) * geometry.block_size


def _least(too_small: int, enough: int, suffices: Callable[[int], bool]) -> int:
    """The least number above *too_small*, up to *enough*, that *suffices*."""
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if suffices(middle):
            enough = middle
        else:
            too_small = middle
    return enough


def trimmed_size(geometry: Geometry, used_groups: int, blocks_needed: int, inodes_needed: int) -> int:
    """The least size in bytes to which the file system can shrink with as much free as for :func:`needed_size`.

    Its first *used_groups* block groups stay, the last of them perhaps in part, because of their inodes. Never more than the
    current size, which is also the result for layouts that are not resized.
    """
    if geometry.feature_ro_compat & RO_COMPAT_BIGALLOC or geometry.feature_compat & COMPAT_SPARSE_SUPER2:
        return geometry.size

    def suffices(blocks_count: int) -> bool:
        capacity = capacity_at(geometry, blocks_count)
        return (
            _groups(geometry, capacity.blocks_count) >= used_groups
            and capacity.free_inodes >= inodes_needed
            and capacity.free_blocks - capacity.reserved_blocks >= blocks_needed + _reserve_step(geometry)
        )

    too_small, enough = geometry.first_data_block, geometry.blocks_count
    return _least(too_small, enough, suffices) * geometry.block_size


def _check(geometry: Geometry, where: str) -> None:
    blocks_per_group_limit = geometry.block_size * 8
    sound = (
        1024 <= geometry.block_size <= 65536
        and 0 < geometry.blocks_per_group <= blocks_per_group_limit
        and 0 < geometry.inodes_per_group <= blocks_per_group_limit
        and geometry.inode_size in (128, 256, 512, 1024, 2048, 4096)
        and _is_descriptor_size(geometry)
        and geometry.first_data_block == (1 if geometry.block_size == 1024 else 0)
        and geometry.blocks_count > geometry.first_data_block
        and geometry.free_blocks <= geometry.blocks_count
        and geometry.reserved_blocks <= geometry.blocks_count
        and geometry.free_inodes <= geometry.inodes_count
        and geometry.inodes_count == geometry.inodes_per_group * _groups(geometry, geometry.blocks_count)
        and geometry.reserved_gdt_blocks <= geometry.block_size // 4
    )
    if not sound and not geometry.feature_ro_compat & RO_COMPAT_BIGALLOC:
        raise FilesystemError(f"{where}: the superblock of the ext4 file system makes no sense; run e2fsck -f on it")


def _is_descriptor_size(geometry: Geometry) -> bool:
    """Whether the size is valid: with 64-bit block numbers the kernel and e2fsprogs accept powers of two up to 1024."""
    size = geometry.descriptor_size
    if not geometry.feature_incompat & INCOMPAT_64BIT:
        return size == 32
    return 64 <= size <= min(1024, geometry.block_size) and size & (size - 1) == 0


def _groups(geometry: Geometry, blocks_count: int) -> int:
    return -(-(blocks_count - geometry.first_data_block) // geometry.blocks_per_group)


def _inode_blocks(geometry: Geometry) -> int:
    return -(-geometry.inodes_per_group * geometry.inode_size // geometry.block_size)


def _descriptors_per_block(geometry: Geometry) -> int:
    return geometry.block_size // geometry.descriptor_size


def _descriptor_blocks(geometry: Geometry, groups: int) -> int:
    return -(-groups // _descriptors_per_block(geometry))


def _descriptor_room(geometry: Geometry, descriptor_blocks: int) -> int:
    """Blocks after each superblock for group descriptors: in use, and reserved for more."""
    if geometry.feature_incompat & INCOMPAT_META_BG:
        return geometry.first_meta_bg
    old = _descriptor_blocks(geometry, _groups(geometry, geometry.blocks_count))
    if geometry.feature_compat & COMPAT_RESIZE_INODE:
        return max(descriptor_blocks, old + geometry.reserved_gdt_blocks)
    return descriptor_blocks + geometry.reserved_gdt_blocks


def _has_super(geometry: Geometry, group: int) -> bool:
    return _backups(geometry, group + 1) > _backups(geometry, group)


def _backups(geometry: Geometry, groups: int) -> int:
    """The number of groups with a superblock among the first *groups*."""
    if not geometry.feature_ro_compat & RO_COMPAT_SPARSE_SUPER:
        return groups
    count = min(groups, 2)
    for base in (3, 5, 7):
        power = base
        while power < groups:
            count += 1
            power *= base
    return count


def _meta_bg_blocks(geometry: Geometry, groups: int) -> int:
    """Blocks of group descriptors in the first *groups* groups of a file system with meta_bg."""
    per_block = _descriptors_per_block(geometry)
    plain_groups = min(groups, geometry.first_meta_bg * per_block)
    count = _backups(geometry, plain_groups) * geometry.first_meta_bg
    full, rest = divmod(groups - plain_groups, per_block)
    return count + full * 3 + min(rest, 2)


def _reserve_step(geometry: Geometry) -> int:
    """Blocks by which the reserve may grow more than a new group adds, so that a larger size never has less space."""
    overhead = 3 + _inode_blocks(geometry) + _descriptor_blocks(geometry, _groups(geometry, geometry.blocks_count))
    overhead += geometry.reserved_gdt_blocks + _LEAST_GAIN
    return 1 + overhead * geometry.reserved_blocks // geometry.blocks_count


def _largest(geometry: Geometry) -> int:
    """The largest number of blocks that the format and resize2fs allow for this layout."""
    blocks = 1 << 48 if geometry.feature_incompat & INCOMPAT_64BIT else (1 << 32) - 1
    by_inodes = _MAX_INODES // geometry.inodes_per_group
    groups = by_inodes
    if not geometry.feature_incompat & INCOMPAT_META_BG:
        descriptor_blocks = geometry.blocks_per_group - _inode_blocks(geometry) - 4
        groups = min(groups, descriptor_blocks * _descriptors_per_block(geometry))
    return min(blocks, groups * geometry.blocks_per_group + geometry.first_data_block)
