"""The superblock of an ext2, ext3 or ext4 file system as a value.

Format: the kernel's Documentation/filesystems/ext4 (super.rst); the names of fields and features are those of ``dumpe2fs``.
Independent of the library that writes file systems, so that one can check the other.
"""

from __future__ import annotations

import struct

import fastcrc
import msgspec

from ....errors import FilesystemError
from .features import UNREADABLE_FEATURES, feature_names

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_SIZE = 1024
ROOT_INODE = 2

_MAGIC = 0xEF53
_GOOD_OLD_INODE_SIZE = 128
_CRC32C_CHECKSUMS = 1
_STATE_CLEAN, _STATE_ERRORS = 1, 2
_OS_HURD = 1

# Offsets are those of struct ext4_super_block. After the label only a few fields are needed, each read by its own offset.
_FRONT = struct.Struct("<7I 4x 3I 12x 2H 12x 2I 4x I 2H 3I 16s 16s")
_DESC_SIZE_AT, _FIRST_META_BG_AT = 0xFE, 0x104
_COUNTS_HIGH_AT, _CHECKSUM_TYPE_AT = 0x150, 0x175
_BACKUP_GROUPS_AT = 0x24C
_CHECKSUM_SEED_AT, _CHECKSUM_AT = 0x270, 0x3FC
_RESERVED_GDT_AT = 0xCE


def crc32c(data: bytes | memoryview, before: int = 0) -> int:
    """CRC-32C of *data*, continuing from the finished CRC *before* (0 to start)."""
    return fastcrc.crc32.iscsi(data, before)


def stored(crc: int) -> int:
    """*crc* as ext4 stores it: without the final inversion of CRC-32C."""
    return crc ^ 0xFFFFFFFF


class Superblock(msgspec.Struct, frozen=True):
    """The superblock's fields. Counts are in blocks and inodes, sizes in bytes.

    Attributes:
        label: volume name, without NUL padding.
        uuid: 16 bytes.
        features: names as dumpe2fs prints them; an unknown bit is ``unknown_compat_0x…`` (``incompat``, ``ro_compat``).
        reserved_blocks: free blocks that only root may use.
        clean: unmounted cleanly, and the kernel recorded no errors.
        checksum_seed: the seed of every metadata checksum (a finished CRC-32C), with ``metadata_csum``.
    """

    block_size: int
    blocks_count: int
    free_blocks: int
    reserved_blocks: int
    inodes_count: int
    free_inodes: int
    inode_size: int
    first_data_block: int
    blocks_per_group: int
    inodes_per_group: int
    groups_count: int
    descriptor_size: int
    first_meta_bg: int
    cluster_blocks: int
    reserved_gdt_blocks: int
    backup_groups: tuple[int, int]
    label: bytes
    uuid: bytes
    features: frozenset[str]
    clean: bool
    checksum_seed: int

    def has(self, feature: str) -> bool:
        return feature in self.features


def parse_superblock(raw: bytes, device_size: int, name: str) -> Superblock:
    """Read the 1024 bytes *raw* at offset 1024 of the file system called *name* in messages.

    Raises:
        FilesystemError: no ext2, ext3 or ext4 file system; an unsupported feature; damage; or larger than its device.
    """
    (
        inodes_count,
        blocks_low,
        reserved_low,
        free_low,
        free_inodes,
        first_data_block,
        log_block_size,
        blocks_per_group,
        _clusters_per_group,
        inodes_per_group,
        magic,
        state,
        creator_os,
        revision,
        _first_inode,
        inode_size,
        _group_number,
        compat,
        incompat,
        ro_compat,
        uuid,
        label,
    ) = _FRONT.unpack_from(raw)
    if magic != _MAGIC:
        raise FilesystemError(
            f"{name} holds no ext2, ext3 or ext4 file system: its superblock's magic number is missing"
        )
    features = feature_names(compat, incompat, ro_compat)
    refused = sorted(f for f in features if f in UNREADABLE_FEATURES or f.startswith("unknown_incompat"))
    if refused:
        raise FilesystemError(f"{name} uses {', '.join(refused)}, under which files cannot be read right")
    if "metadata_csum" in features:
        found = struct.unpack_from("<I", raw, _CHECKSUM_AT)[0]
        if raw[_CHECKSUM_TYPE_AT] != _CRC32C_CHECKSUMS:
            raise FilesystemError(f"{name} uses metadata checksums of unknown type {raw[_CHECKSUM_TYPE_AT]}")
        if stored(crc32c(raw[:_CHECKSUM_AT])) != found:
            raise _damaged(name, "its checksum is wrong")
    if creator_os == _OS_HURD:
        raise FilesystemError(f"{name} was made for the Hurd, whose inodes are laid out differently")
    if revision == 0:
        inode_size = _GOOD_OLD_INODE_SIZE
    wide = "64bit" in features
    descriptor_size = struct.unpack_from("<H", raw, _DESC_SIZE_AT)[0] if wide else 32
    high = struct.unpack_from("<3I", raw, _COUNTS_HIGH_AT) if wide else (0, 0, 0)
    blocks_count = blocks_low | high[0] << 32
    block_size = 1024 << min(log_block_size, 16)
    cluster_blocks = 1
    if "bigalloc" in features:
        log_cluster_size = struct.unpack_from("<I", raw, 0x1C)[0]
        if not log_block_size <= log_cluster_size <= 20:
            raise _damaged(name, f"its cluster size, 1 KiB << {log_cluster_size}, is absurd")
        cluster_blocks = 1 << (log_cluster_size - log_block_size)
    if block_size > 65536:
        raise _damaged(name, f"its block size, 1 KiB << {log_block_size}, is absurd")
    if not (128 <= inode_size <= block_size and inode_size & (inode_size - 1) == 0):
        raise _damaged(name, f"its inode size, {inode_size}, is absurd")
    if not (
        (64 if wide else 32) <= descriptor_size <= min(1024, block_size)
        and descriptor_size & (descriptor_size - 1) == 0
    ):
        raise _damaged(name, f"its group descriptor size, {descriptor_size}, is absurd")
    if blocks_per_group < 8 or blocks_per_group > 8 * block_size * cluster_blocks:
        raise _damaged(name, f"{blocks_per_group} blocks a group is absurd")
    if inodes_per_group < 1 or inodes_per_group > 8 * block_size or inodes_per_group * inode_size % block_size:
        raise _damaged(name, f"{inodes_per_group} inodes a group is absurd")
    if first_data_block > 1 or first_data_block >= blocks_count:
        raise _damaged(name, f"its first data block is {first_data_block} of {blocks_count}")
    if blocks_count * block_size > device_size:
        raise FilesystemError(
            f"{name} is cut short: its file system has {blocks_count} blocks of {block_size} bytes, "
            f"but there are only {device_size} bytes"
        )
    groups_count = -(-(blocks_count - first_data_block) // blocks_per_group)
    if inodes_count != groups_count * inodes_per_group:
        raise _damaged(
            name, f"it counts {inodes_count} inodes, but has {groups_count} groups with {inodes_per_group} each"
        )
    seed = crc32c(uuid)
    if "metadata_csum_seed" in features:
        seed = stored(struct.unpack_from("<I", raw, _CHECKSUM_SEED_AT)[0])
    return Superblock(
        block_size=block_size,
        blocks_count=blocks_count,
        free_blocks=free_low | high[2] << 32,
        reserved_blocks=reserved_low | high[1] << 32,
        inodes_count=inodes_count,
        free_inodes=free_inodes,
        inode_size=inode_size,
        first_data_block=first_data_block,
        blocks_per_group=blocks_per_group,
        inodes_per_group=inodes_per_group,
        groups_count=groups_count,
        descriptor_size=descriptor_size,
        first_meta_bg=struct.unpack_from("<I", raw, _FIRST_META_BG_AT)[0] if "meta_bg" in features else groups_count,
        cluster_blocks=cluster_blocks,
        reserved_gdt_blocks=struct.unpack_from("<H", raw, _RESERVED_GDT_AT)[0],
        backup_groups=struct.unpack_from("<2I", raw, _BACKUP_GROUPS_AT),
        label=label.split(b"\0", 1)[0],
        uuid=uuid,
        features=features,
        clean=bool(state & _STATE_CLEAN) and not state & _STATE_ERRORS,
        checksum_seed=seed,
    )


def _damaged(name: str, why: str) -> FilesystemError:
    return FilesystemError(f"the superblock of {name} is damaged: {why}; e2fsck may repair it")
