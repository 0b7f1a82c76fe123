"""The superblock of an ext2, ext3 or ext4 file system as a value.

Format: the kernel's Documentation/filesystems/ext4 (super.rst); the names of fields and features are those of ``dumpe2fs``.
Independent of the library that writes file systems, so that one can check the other.
"""

from __future__ import annotations

import fastcrc
import msgspec

from ....errors import FilesystemError
from .features import UNKNOWN_INCOMPAT, UNREADABLE_FEATURES, feature_names
from .superblock_fields import SuperblockFields, superblock_fields

ROOT_INODE = 2

_CRC32C_CHECKSUMS = 1
_STATE_CLEAN, _STATE_ERRORS = 1, 2
_OS_HURD = 1
_MAX_BLOCK_SIZE = 65536
_MAX_LOG_CLUSTER_SIZE = 20


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
        features: names as dumpe2fs prints them.
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
        FilesystemError: no ext2, ext3 or ext4 file system; a feature that cannot be read right; damaged; or larger than its
            device.
    """
    fields = superblock_fields(raw)
    if fields is None:
        raise FilesystemError(
            f"{name} holds no ext2, ext3 or ext4 file system: its superblock's magic number is missing"
        )
    features = frozenset(feature_names(fields.compat, fields.incompat, fields.ro_compat))
    _check_readable(fields, features, name)
    block_size = 1024 << min(fields.log_block_size, 16)
    cluster_blocks = _cluster_blocks(fields, name) if "bigalloc" in features else 1
    _check_sizes(fields, block_size, name)
    _check_counts(fields, block_size, cluster_blocks, name)
    if fields.blocks_count * block_size > device_size:
        raise FilesystemError(
            f"{name} is cut short: its file system has {fields.blocks_count} blocks of {block_size} bytes, "
            f"but there are only {device_size} bytes"
        )
    groups_count = _groups_count(fields, name)
    return Superblock(
        block_size=block_size,
        blocks_count=fields.blocks_count,
        free_blocks=fields.free_blocks,
        reserved_blocks=fields.reserved_blocks,
        inodes_count=fields.inodes_count,
        free_inodes=fields.free_inodes,
        inode_size=fields.inode_size,
        first_data_block=fields.first_data_block,
        blocks_per_group=fields.blocks_per_group,
        inodes_per_group=fields.inodes_per_group,
        groups_count=groups_count,
        descriptor_size=fields.descriptor_size,
        first_meta_bg=fields.first_meta_bg if "meta_bg" in features else groups_count,
        cluster_blocks=cluster_blocks,
        reserved_gdt_blocks=fields.reserved_gdt_blocks,
        backup_groups=fields.backup_groups,
        label=fields.label,
        uuid=fields.uuid,
        features=features,
        clean=bool(fields.state & _STATE_CLEAN) and not fields.state & _STATE_ERRORS,
        checksum_seed=stored(fields.checksum_seed) if "metadata_csum_seed" in features else crc32c(fields.uuid),
    )


def _check_readable(fields: SuperblockFields, features: frozenset[str], name: str) -> None:
    refused = sorted(f for f in features if f in UNREADABLE_FEATURES or f.startswith(UNKNOWN_INCOMPAT))
    if refused:
        raise FilesystemError(f"{name} uses {', '.join(refused)}, under which files cannot be read right")
    if "metadata_csum" in features:
        if fields.checksum_type != _CRC32C_CHECKSUMS:
            raise FilesystemError(f"{name} uses metadata checksums of unknown type {fields.checksum_type}")
        if stored(crc32c(fields.checksummed)) != fields.checksum:
            raise _damaged(name, "its checksum is wrong")
    if fields.creator_os == _OS_HURD:
        raise FilesystemError(f"{name} was made for the Hurd, whose inodes are laid out differently")


def _cluster_blocks(fields: SuperblockFields, name: str) -> int:
    if not fields.log_block_size <= fields.log_cluster_size <= _MAX_LOG_CLUSTER_SIZE:
        raise _damaged(name, f"its cluster size, 1 KiB << {fields.log_cluster_size}, is absurd")
    return 1 << (fields.log_cluster_size - fields.log_block_size)


def _check_sizes(fields: SuperblockFields, block_size: int, name: str) -> None:
    if block_size > _MAX_BLOCK_SIZE:
        raise _damaged(name, f"its block size, 1 KiB << {fields.log_block_size}, is absurd")
    inode_size, descriptor_size = fields.inode_size, fields.descriptor_size
    if not (128 <= inode_size <= block_size and _is_power_of_two(inode_size)):
        raise _damaged(name, f"its inode size, {inode_size}, is absurd")
    least = 64 if fields.is_wide else 32
    if not (least <= descriptor_size <= min(1024, block_size) and _is_power_of_two(descriptor_size)):
        raise _damaged(name, f"its group descriptor size, {descriptor_size}, is absurd")


def _check_counts(fields: SuperblockFields, block_size: int, cluster_blocks: int, name: str) -> None:
    # A bitmap of one block has a bit for each cluster of a group, and for each inode.
    bits = 8 * block_size
    inodes_per_group = fields.inodes_per_group
    if not 8 <= fields.blocks_per_group <= bits * cluster_blocks:
        raise _damaged(name, f"{fields.blocks_per_group} blocks a group is absurd")
    if not 1 <= inodes_per_group <= bits or inodes_per_group * fields.inode_size % block_size:
        raise _damaged(name, f"{inodes_per_group} inodes a group is absurd")
    if fields.first_data_block > 1 or fields.first_data_block >= fields.blocks_count:
        raise _damaged(name, f"its first data block is {fields.first_data_block} of {fields.blocks_count}")


def _groups_count(fields: SuperblockFields, name: str) -> int:
    count = -(-(fields.blocks_count - fields.first_data_block) // fields.blocks_per_group)
    if fields.inodes_count != count * fields.inodes_per_group:
        raise _damaged(
            name,
            f"it counts {fields.inodes_count} inodes, but has {count} groups with {fields.inodes_per_group} each",
        )
    return count


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _damaged(name: str, why: str) -> FilesystemError:
    return FilesystemError(f"the superblock of {name} is damaged: {why}; e2fsck may repair it")
