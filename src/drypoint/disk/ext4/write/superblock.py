"""The superblock as a value, and the check that drypoint can write to the file system.

Format: struct ext2_super_block in e2fsprogs' ext2_fs.h; the kernel's Documentation/filesystems/ext4/super.rst.
"""

from __future__ import annotations

import struct
from uuid import UUID

import msgspec

from ....errors import FilesystemError
from ...device import Device
from .supported_features import (
    COMPAT_DIR_INDEX,
    COMPAT_HAS_JOURNAL,
    INCOMPAT_64BIT,
    INCOMPAT_CSUM_SEED,
    INCOMPAT_EXTENTS,
    INCOMPAT_FILETYPE,
    INCOMPAT_LARGEDIR,
    INCOMPAT_RECOVER,
    RO_COMPAT_DIR_NLINK,
    RO_COMPAT_METADATA_CSUM,
    RO_COMPAT_ORPHAN_PRESENT,
    unsupported_features,
)

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_SIZE = 1024
_MAGIC_AT, _MAGIC = 0x38, 0xEF53
# All fields that are read are 2 or 4 bytes long, at multiples of that.
_WORDS, _HALVES = struct.Struct("<256I"), struct.Struct("<512H")
_STATE_VALID = 0x0001
_STATE_ERROR = 0x0002
_FLAG_SIGNED_HASH = 0x0001
_FLAG_UNSIGNED_HASH = 0x0002
_BLOCK_SIZES = (1024, 2048, 4096, 8192, 16384, 32768)
_GOOD_OLD_FIRST_INODE, _GOOD_OLD_INODE_SIZE, _GOOD_OLD_DESCRIPTOR_SIZE = 11, 128, 32


class Superblock(msgspec.Struct, frozen=True):
    """The fields of a superblock for writing and resizing, unchecked. Counts are in blocks or inodes, sizes in bytes.

    Attributes:
        last_write: seconds since the epoch.
        last_orphan: the first inode that is deleted and not freed; 0 for none.
        hash_version: for dirhash, including the signedness of char; None if directories cannot be indexed.
        checksum_seed: the stored seed of all metadata checksums; None if it follows from ``uuid``.
        journal_inode: 0 without a journal, or with one on another device, *journal_uuid* or *journal_device*.
    """

    block_size: int
    blocks_count: int
    reserved_blocks: int
    free_blocks: int
    first_data_block: int
    blocks_per_group: int
    inodes_count: int
    free_inodes: int
    inodes_per_group: int
    first_inode: int
    inode_size: int
    want_extra_isize: int
    descriptor_size: int
    reserved_gdt_blocks: int
    first_meta_bg: int
    last_write: int
    state: int
    last_orphan: int
    feature_compat: int
    feature_incompat: int
    feature_ro_compat: int
    hash_seed: bytes
    hash_version: int | None
    def_hash_version: int
    checksum_seed: int | None
    uuid: bytes
    journal_inode: int
    journal_device: int
    journal_uuid: bytes

    @property
    def extents(self) -> bool:
        return bool(self.feature_incompat & INCOMPAT_EXTENTS)

    @property
    def wide(self) -> bool:
        """Whether block counts have 64 bits."""
        return bool(self.feature_incompat & INCOMPAT_64BIT)

    @property
    def filetype(self) -> bool:
        return bool(self.feature_incompat & INCOMPAT_FILETYPE)

    @property
    def large_directories(self) -> bool:
        return bool(self.feature_incompat & INCOMPAT_LARGEDIR)

    @property
    def metadata_csum(self) -> bool:
        return bool(self.feature_ro_compat & RO_COMPAT_METADATA_CSUM)

    @property
    def dir_nlink(self) -> bool:
        return bool(self.feature_ro_compat & RO_COMPAT_DIR_NLINK)

    @property
    def needs_recovery(self) -> bool:
        """Whether its journal must be replayed."""
        return bool(self.feature_incompat & INCOMPAT_RECOVER)

    @property
    def has_errors(self) -> bool:
        """Whether the kernel recorded an error."""
        return bool(self.state & _STATE_ERROR)

    @property
    def is_clean(self) -> bool:
        """Whether it was unmounted cleanly: no journal to replay, no recorded errors."""
        return bool(self.state & _STATE_VALID) and not self.has_errors and not self.needs_recovery

    @property
    def why_unclean(self) -> str | None:
        """Why e2fsck must run before the file system can be written; None if it need not.

        Continues "the file system …".
        """
        if self.has_errors:
            return "is marked as having errors"
        if self.needs_recovery:
            return "was not cleanly unmounted: it has a journal that was not replayed"
        if not self.is_clean:
            return "was not cleanly unmounted"
        if self.last_orphan or self.feature_ro_compat & RO_COMPAT_ORPHAN_PRESENT:
            return "has deleted files that are not yet freed"
        return None

    @property
    def external_journal(self) -> str | None:
        """The UUID of another device that holds the journal, or None."""
        if not self.feature_compat & COMPAT_HAS_JOURNAL or self.journal_inode:
            return None
        return str(UUID(bytes=self.journal_uuid)) if self.journal_device or any(self.journal_uuid) else None


def load_superblock(device: Device, where: str | None = None) -> Superblock:
    """The primary superblock of the ext file system on *device*, named *where* in messages. Only its magic number is checked.

    Raises:
        FilesystemError: no ext2, ext3 or ext4.
        DiskImageError: the device cannot be read.
    """
    where = where or f"the partition {device.name}"
    if device.size < SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE:
        raise FilesystemError(f"{where} has {device.size} bytes, too few for an ext4 file system")
    raw = device.read(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE)
    magic = int.from_bytes(raw[_MAGIC_AT : _MAGIC_AT + 2], "little")
    if magic != _MAGIC:
        raise FilesystemError(
            f"{where} holds no ext4 file system: its superblock's magic number is {magic:#06x}, not {_MAGIC:#06x}"
        )
    return _parse(raw)


def read_superblock(device: Device) -> Superblock:
    """Read the superblock of *device*, and check that the file system can be written.

    Raises:
        FilesystemError, DiskImageError: as :func:`load_superblock` and :func:`check_writable`.
    """
    superblock = load_superblock(device)
    check_writable(superblock, device)
    return superblock


def check_writable(superblock: Superblock, device: Device, where: str | None = None) -> None:
    """Check that the file system of *superblock*, on *device*, can be written; *where* as for :func:`load_superblock`.

    Raises:
        FilesystemError: it was not unmounted cleanly, has errors on record, uses an unsupported feature, or is larger than
            *device*.
    """
    where = where or f"the partition {device.name}"
    if superblock.why_unclean is not None:
        raise FilesystemError(f"the file system in {where} {superblock.why_unclean}; run e2fsck -f{_argument(device)}")
    _refuse_unsupported(superblock, where)
    if superblock.blocks_count * superblock.block_size > device.size:
        raise FilesystemError(
            f"the file system in {where} claims {superblock.blocks_count} blocks of {superblock.block_size} bytes, but the "
            f"partition has {device.size} bytes"
        )


def _argument(device: Device) -> str:
    """The argument of e2fsck for the file system, for users."""
    location = device.location
    if location is None or not device.name.startswith(str(location[0])):
        return " on it"
    return " '{}?offset={}'".format(*location)


def _parse(raw: bytes) -> Superblock:
    words, halves = _WORDS.unpack(raw), _HALVES.unpack(raw)
    is_old = not words[0x4C // 4]
    compat, incompat, ro_compat = words[0x5C // 4 : 0x68 // 4]
    is_wide = bool(incompat & INCOMPAT_64BIT)
    blocks_high, reserved_high, free_high = words[0x150 // 4 : 0x15C // 4] if is_wide else (0, 0, 0)
    return Superblock(
        block_size=1024 << min(words[0x18 // 4], 16),
        blocks_count=blocks_high << 32 | words[0x04 // 4],
        reserved_blocks=reserved_high << 32 | words[0x08 // 4],
        free_blocks=free_high << 32 | words[0x0C // 4],
        first_data_block=words[0x14 // 4],
        blocks_per_group=words[0x20 // 4],
        inodes_count=words[0x00 // 4],
        free_inodes=words[0x10 // 4],
        inodes_per_group=words[0x28 // 4],
        first_inode=_GOOD_OLD_FIRST_INODE if is_old else words[0x54 // 4],
        inode_size=_GOOD_OLD_INODE_SIZE if is_old else halves[0x58 // 2],
        want_extra_isize=max(halves[0x15C // 2], halves[0x15E // 2]),
        descriptor_size=halves[0xFE // 2] if is_wide else _GOOD_OLD_DESCRIPTOR_SIZE,
        reserved_gdt_blocks=halves[0xCE // 2],
        first_meta_bg=words[0x104 // 4],
        last_write=words[0x30 // 4],
        state=halves[0x3A // 2],
        last_orphan=words[0xE8 // 4],
        feature_compat=compat,
        feature_incompat=incompat,
        feature_ro_compat=ro_compat,
        hash_seed=raw[0xEC:0xFC],
        hash_version=_hash_version(raw[0xFC], words[0x160 // 4]) if compat & COMPAT_DIR_INDEX else None,
        def_hash_version=raw[0xFC],
        checksum_seed=words[0x270 // 4] if incompat & INCOMPAT_CSUM_SEED else None,
        uuid=raw[0x68:0x78],
        journal_inode=words[0xE0 // 4],
        journal_device=words[0xE4 // 4],
        journal_uuid=raw[0xD0:0xE0],
    )


def _hash_version(default: int, flags: int) -> int | None:
    if default > 2 or not flags & (_FLAG_SIGNED_HASH | _FLAG_UNSIGNED_HASH):
        return None
    return default + (3 if flags & _FLAG_UNSIGNED_HASH else 0)


def _refuse_unsupported(superblock: Superblock, where: str) -> None:
    refused = unsupported_features(superblock.feature_compat, superblock.feature_incompat, superblock.feature_ro_compat)
    if refused:
        raise FilesystemError(
            f"the file system in {where} uses features that drypoint cannot write: {', '.join(refused)}. Make it without them "
            f"(mkfs.ext4 -O {','.join(f'^{name}' for name in refused)}), or take them off where tune2fs can"
        )
    if superblock.block_size not in _BLOCK_SIZES:
        raise FilesystemError(
            f"the file system in {where} has blocks of {superblock.block_size} bytes; 1024 to 32768 are supported"
        )
    if superblock.inode_size < 128 or superblock.inode_size > superblock.block_size:
        raise FilesystemError(f"the file system in {where} has inodes of {superblock.inode_size} bytes")
