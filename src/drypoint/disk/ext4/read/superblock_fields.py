"""The superblock of an ext2, ext3 or ext4 file system as it is on the disk, unchecked.

Format: struct ext4_super_block in the kernel's Documentation/filesystems/ext4 (super.rst). Independent of the library that
writes file systems, so that one can check the other.
"""

from __future__ import annotations

import struct

import msgspec

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_SIZE = 1024

_MAGIC = 0xEF53
_GOOD_OLD_INODE_SIZE = 128
_GOOD_OLD_DESCRIPTOR_SIZE = 32
_64BIT = 1 << 7

# After the label only a few fields are needed, each read by its own offset.
_FRONT = struct.Struct("<9I 4x I 12x 2H 12x 2I 4x I 2H 3I 16s 16s")
_RESERVED_GDT_AT, _DESC_SIZE_AT, _FIRST_META_BG_AT = 0xCE, 0xFE, 0x104
_COUNTS_HIGH_AT, _CHECKSUM_TYPE_AT = 0x150, 0x175
_BACKUP_GROUPS_AT = 0x24C
_CHECKSUM_SEED_AT, _CHECKSUM_AT = 0x270, 0x3FC


class SuperblockFields(msgspec.Struct, frozen=True):
    """The fields of a superblock that reading needs, by the kernel's names. Counts are joined of their halves.

    Attributes:
        group_number: of the block group that this copy is in.
        checksummed: the bytes that *checksum* is of.
    """

    inodes_count: int
    blocks_count: int
    reserved_blocks: int
    free_blocks: int
    free_inodes: int
    first_data_block: int
    log_block_size: int
    log_cluster_size: int
    blocks_per_group: int
    inodes_per_group: int
    state: int
    creator_os: int
    inode_size: int
    group_number: int
    compat: int
    incompat: int
    ro_compat: int
    uuid: bytes
    label: bytes
    reserved_gdt_blocks: int
    descriptor_size: int
    first_meta_bg: int
    checksum_type: int
    backup_groups: tuple[int, int]
    checksum_seed: int
    checksum: int
    checksummed: bytes

    @property
    def is_wide(self) -> bool:
        """Whether block numbers have 64 bits."""
        return bool(self.incompat & _64BIT)


def superblock_fields(raw: bytes) -> SuperblockFields | None:
    """The fields of the superblock *raw*, 1024 bytes; None without its magic number."""
    (
        inodes_count,
        blocks_low,
        reserved_low,
        free_low,
        free_inodes,
        first_data_block,
        log_block_size,
        log_cluster_size,
        blocks_per_group,
        inodes_per_group,
        magic,
        state,
        creator_os,
        revision,
        _first_inode,
        inode_size,
        group_number,
        compat,
        incompat,
        ro_compat,
        uuid,
        label,
    ) = _FRONT.unpack_from(raw)
    if magic != _MAGIC:
        return None
    is_wide = bool(incompat & _64BIT)
    blocks_high, reserved_high, free_high = struct.unpack_from("<3I", raw, _COUNTS_HIGH_AT) if is_wide else (0, 0, 0)
    return SuperblockFields(
        inodes_count=inodes_count,
        blocks_count=blocks_low | blocks_high << 32,
        reserved_blocks=reserved_low | reserved_high << 32,
        free_blocks=free_low | free_high << 32,
        free_inodes=free_inodes,
        first_data_block=first_data_block,
        log_block_size=log_block_size,
        log_cluster_size=log_cluster_size,
        blocks_per_group=blocks_per_group,
        inodes_per_group=inodes_per_group,
        state=state,
        creator_os=creator_os,
        inode_size=inode_size if revision else _GOOD_OLD_INODE_SIZE,
        group_number=group_number,
        compat=compat,
        incompat=incompat,
        ro_compat=ro_compat,
        uuid=uuid,
        label=label.partition(b"\0")[0],
        reserved_gdt_blocks=_u16(raw, _RESERVED_GDT_AT),
        descriptor_size=_u16(raw, _DESC_SIZE_AT) if is_wide else _GOOD_OLD_DESCRIPTOR_SIZE,
        first_meta_bg=_u32(raw, _FIRST_META_BG_AT),
        checksum_type=raw[_CHECKSUM_TYPE_AT],
        backup_groups=(_u32(raw, _BACKUP_GROUPS_AT), _u32(raw, _BACKUP_GROUPS_AT + 4)),
        checksum_seed=_u32(raw, _CHECKSUM_SEED_AT),
        checksum=_u32(raw, _CHECKSUM_AT),
        checksummed=raw[:_CHECKSUM_AT],
    )


def _u16(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 2], "little")


def _u32(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 4], "little")
