"""The group descriptors of an ext2, ext3 or ext4 file system as values, and their place on the disk.

Format: the kernel's Documentation/filesystems/ext4 (group_descr.rst).
"""

from __future__ import annotations

import struct

import fastcrc
import msgspec

from ....errors import FilesystemError
from .superblocks import Superblock, crc32c, stored

_LOW = struct.Struct("<3I4H4x2H2H")
_HIGH = struct.Struct("<3I4H")
_CHECKSUM_AT = 0x1E


class Group(msgspec.Struct, frozen=True):
    """A block group's descriptor: the block numbers of its parts, and counts of what is free in it."""

    number: int
    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    free_blocks: int
    free_inodes: int
    used_directories: int
    flags: int
    unused_inodes: int


def descriptor_block(superblock: Superblock, index: int) -> int:
    """The block that holds part *index* of the group descriptor table."""
    # With 1 KiB blocks and clusters, the first block is for boot code although the first data block is 0.
    shift = 1 if superblock.block_size == 1024 and superblock.cluster_blocks > 1 else 0
    if index < superblock.first_meta_bg:
        return superblock.first_data_block + 1 + index + shift
    group = index * (superblock.block_size // superblock.descriptor_size)
    block = superblock.first_data_block + group * superblock.blocks_per_group
    return block + (1 if _holds_superblock(superblock, group) else 0) + (shift if group == 0 else 0)


def _holds_superblock(superblock: Superblock, group: int) -> bool:
    if group == 0:
        return True
    if superblock.has("sparse_super2"):
        return group in superblock.backup_groups
    if group == 1 or not superblock.has("sparse_super"):
        return True
    return any(_is_power(group, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1


def parse_group(superblock: Superblock, number: int, raw: bytes, name: str) -> Group:
    """Read the descriptor *raw* of group *number*.

    Raises:
        FilesystemError: its checksum is wrong, or it puts a part of the group outside the file system.
    """
    bitmap, inode_bitmap, table, free_blocks, free_inodes, directories, flags, _, _, unused, checksum = (
        _LOW.unpack_from(raw)
    )
    if superblock.descriptor_size >= 64:
        high = _HIGH.unpack_from(raw, 32)
        bitmap |= high[0] << 32
        inode_bitmap |= high[1] << 32
        table |= high[2] << 32
        free_blocks |= high[3] << 16
        free_inodes |= high[4] << 16
        directories |= high[5] << 16
        unused |= high[6] << 16
    if _group_checksum(superblock, number, raw) not in (None, checksum):
        raise FilesystemError(
            f"the descriptor of group {number} of {name} is damaged: its checksum is wrong; run e2fsck"
        )
    table_blocks = superblock.inodes_per_group * superblock.inode_size // superblock.block_size
    for what, block, length in (
        ("block bitmap", bitmap, 1),
        ("inode bitmap", inode_bitmap, 1),
        ("inode table", table, table_blocks),
    ):
        if not superblock.first_data_block < block <= superblock.blocks_count - length:
            raise FilesystemError(
                f"the descriptor of group {number} of {name} is damaged: "
                f"it puts the {what} at block {block} of {superblock.blocks_count}; run e2fsck"
            )
    # Unlike the superblock, descriptors count clusters.
    free_blocks *= superblock.cluster_blocks
    return Group(number, bitmap, inode_bitmap, table, free_blocks, free_inodes, directories, flags, unused)


def _group_checksum(superblock: Superblock, number: int, raw: bytes) -> int | None:
    before = raw[:_CHECKSUM_AT]
    after = raw[_CHECKSUM_AT + 2 :]
    numbered = struct.pack("<I", number)
    if superblock.has("metadata_csum"):
        return stored(crc32c(numbered + before + b"\0\0" + after, superblock.checksum_seed)) & 0xFFFF
    if superblock.has("uninit_bg"):
        return fastcrc.crc16.modbus(superblock.uuid + numbered + before + after)
    return None
