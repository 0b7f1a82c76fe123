"""The superblock as facts, and the question whether drypoint may write into such a file system.

Format: struct ext2_super_block in e2fsprogs' ext2_fs.h; the kernel's Documentation/filesystems/ext4/super.rst.
"""

from __future__ import annotations

import struct
from uuid import UUID

import msgspec

from ....errors import FilesystemError
from ...device import Device

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_SIZE = 1024
_MAGIC = 0xEF53
_STATE_VALID = 0x0001
_STATE_ERROR = 0x0002
_FLAG_SIGNED_HASH = 0x0001
_FLAG_UNSIGNED_HASH = 0x0002

COMPAT_HAS_JOURNAL = 0x0004
COMPAT_EXT_ATTR = 0x0008
COMPAT_DIR_INDEX = 0x0020
INCOMPAT_FILETYPE = 0x0002
INCOMPAT_RECOVER = 0x0004
INCOMPAT_EXTENTS = 0x0040
INCOMPAT_64BIT = 0x0080
INCOMPAT_LARGEDIR = 0x4000
RO_COMPAT_LARGE_FILE = 0x0002
RO_COMPAT_DIR_NLINK = 0x0020
RO_COMPAT_METADATA_CSUM = 0x0400
RO_COMPAT_ORPHAN_PRESENT = 0x10000

# Features drypoint writes beside without harm. Everything else is refused: by name where it has one.
_COMPAT_WRITABLE = {
    0x0001: "dir_prealloc",
    0x0004: "has_journal",
    0x0008: "ext_attr",
    0x0010: "resize_inode",
    0x0020: "dir_index",
    0x0200: "sparse_super2",
    0x0400: "fast_commit",
    0x0800: "stable_inodes",
    0x1000: "orphan_file",
}
_INCOMPAT_WRITABLE = {
    0x0002: "filetype",
    0x0010: "meta_bg",
    0x0040: "extents",
    0x0080: "64bit",
    0x0200: "flex_bg",
    0x2000: "metadata_csum_seed",
    0x4000: "large_dir",
}
_RO_COMPAT_WRITABLE = {
    0x0001: "sparse_super",
    0x0002: "large_file",
    0x0008: "huge_file",
    0x0010: "uninit_bg",
    0x0020: "dir_nlink",
    0x0040: "extra_isize",
    0x0400: "metadata_csum",
}
_COMPAT_REFUSED = {0x0002: "imagic_inodes", 0x0040: "lazy_bg", 0x0100: "exclude_bitmap"}
_INCOMPAT_REFUSED = {
    0x0001: "compression",
    0x0008: "journal_dev",
    0x0100: "mmp",
    0x0400: "ea_inode",
    0x1000: "dirdata",
    0x8000: "inline_data",
    0x10000: "encrypt",
    0x20000: "casefold",
}
_RO_COMPAT_REFUSED = {
    0x0080: "has_snapshot",
    0x0100: "quota",
    0x0200: "bigalloc",
    0x0800: "replica",
    0x1000: "read-only",
    0x2000: "project",
    0x4000: "shared_blocks",
    0x8000: "verity",
}


class Superblock(msgspec.Struct, frozen=True):
    """What a writer needs to know of a file system; counts and sizes in bytes, blocks or inodes as named."""

    block_size: int
    blocks_count: int
    first_data_block: int
    inodes_count: int
    inodes_per_group: int
    first_inode: int
    inode_size: int
    want_extra_isize: int
    feature_compat: int
    feature_incompat: int
    feature_ro_compat: int
    hash_seed: bytes
    hash_version: int | None
    """The version for dirhash, with the signedness of char in it; None when directories cannot be indexed."""
    def_hash_version: int
    checksum_seed: int | None
    """The stored seed of all metadata checksums, or None when it follows from ``uuid``."""
    uuid: bytes

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


def read_superblock(device: Device, where: str | None = None) -> Superblock:
    """Read the superblock of *device*, *where* in messages, and make sure that the file system can be written into.

    Raises:
        FilesystemError: no ext2, ext3 or ext4; not cleanly unmounted; marked as faulty; uses a feature that is not supported;
            or is larger than *device*.
    """
    where = where or f"the partition {device.name}"
    if device.size < SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE:
        raise FilesystemError(f"{where} has {device.size} bytes, too few for an ext4 file system")
    raw = device.read(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE)
    (magic,) = struct.unpack_from("<H", raw, 0x38)
    if magic != _MAGIC:
        raise FilesystemError(
            f"{where} holds no ext4 file system: its superblock's magic number is {magic:#06x}, not {_MAGIC:#06x}"
        )
    superblock = _parse(raw)
    _refuse_unclean(raw, where, _argument(device))
    _refuse_unsupported(superblock, where)
    if superblock.blocks_count * superblock.block_size > device.size:
        raise FilesystemError(
            f"the file system in {where} claims {superblock.blocks_count} blocks of {superblock.block_size} bytes, but the "
            f"partition has {device.size} bytes"
        )
    return superblock


def _argument(device: Device) -> str:
    """How a user names the file system to e2fsck."""
    location = device.location
    if location is None or not device.name.startswith(str(location[0])):
        return " on it"
    return " '{}?offset={}'".format(*location)


def _parse(raw: bytes) -> Superblock:
    inodes_count, blocks_lo = struct.unpack_from("<II", raw, 0x00)
    first_data_block, log_block_size = struct.unpack_from("<II", raw, 0x14)
    (inodes_per_group,) = struct.unpack_from("<I", raw, 0x28)
    (revision,) = struct.unpack_from("<I", raw, 0x4C)
    first_inode, inode_size = struct.unpack_from("<IH", raw, 0x54) if revision else (11, 128)
    compat, incompat, ro_compat = struct.unpack_from("<III", raw, 0x5C) if revision else (0, 0, 0)
    (blocks_hi,) = struct.unpack_from("<I", raw, 0x150) if incompat & 0x80 else (0,)
    min_extra, want_extra = struct.unpack_from("<HH", raw, 0x15C)
    (flags,) = struct.unpack_from("<I", raw, 0x160)
    (stored_seed,) = struct.unpack_from("<I", raw, 0x270)
    def_hash_version = raw[0xFC]
    hash_version: int | None = None
    if compat & COMPAT_DIR_INDEX and def_hash_version <= 2 and flags & (_FLAG_SIGNED_HASH | _FLAG_UNSIGNED_HASH):
        hash_version = def_hash_version + (3 if flags & _FLAG_UNSIGNED_HASH else 0)
    return Superblock(
        block_size=1024 << min(log_block_size, 16),
        blocks_count=blocks_hi << 32 | blocks_lo,
        first_data_block=first_data_block,
        inodes_count=inodes_count,
        inodes_per_group=inodes_per_group,
        first_inode=first_inode,
        inode_size=inode_size,
        want_extra_isize=max(min_extra, want_extra),
        feature_compat=compat,
        feature_incompat=incompat,
        feature_ro_compat=ro_compat,
        hash_seed=raw[0xEC:0xFC],
        hash_version=hash_version,
        def_hash_version=def_hash_version,
        checksum_seed=stored_seed if incompat & 0x2000 else None,
        uuid=raw[0x68:0x78],
    )


def why_unclean(device: Device) -> str | None:
    """What keeps the ext file system on *device* from being written into until e2fsck has run; None if nothing does.

    Goes on from "the file system …".

    Raises:
        DiskImageError: the device cannot be read.
    """
    return _why_unclean(device.read(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE))


def external_journal(device: Device) -> str | None:
    """The UUID of the device that holds the journal of the ext file system on *device*; None if none elsewhere does.

    Raises:
        DiskImageError: the device cannot be read.
    """
    raw = device.read(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE)
    (compat,) = struct.unpack_from("<I", raw, 0x5C)
    inode, number = struct.unpack_from("<II", raw, 0xE0)
    uuid = raw[0xD0:0xE0]
    if not compat & COMPAT_HAS_JOURNAL or inode or not (number or any(uuid)):
        return None
    return str(UUID(bytes=uuid))


def last_write(device: Device) -> int:
    """When the file system on *device* was last written to, in seconds since the epoch, by a superblock that may be damaged.

    Raises:
        DiskImageError: the device cannot be read.
    """
    return int.from_bytes(device.read(SUPERBLOCK_OFFSET + 0x30, 4), "little")


def _refuse_unclean(raw: bytes, where: str, name_for_e2fsck: str) -> None:
    reason = _why_unclean(raw)
    if reason is not None:
        raise FilesystemError(f"the file system in {where} {reason}; run e2fsck -f{name_for_e2fsck}")


def _why_unclean(raw: bytes) -> str | None:
    (state,) = struct.unpack_from("<H", raw, 0x3A)
    (last_orphan,) = struct.unpack_from("<I", raw, 0xE8)
    (incompat,) = struct.unpack_from("<I", raw, 0x60)
    (ro_compat,) = struct.unpack_from("<I", raw, 0x64)
    if state & _STATE_ERROR:
        return "is marked as having errors"
    if incompat & INCOMPAT_RECOVER:
        return "was not cleanly unmounted: it has a journal that was not replayed"
    if not state & _STATE_VALID:
        return "was not cleanly unmounted"
    if last_orphan or ro_compat & RO_COMPAT_ORPHAN_PRESENT:
        return "has deleted files that are not yet freed"
    return None


def _refuse_unsupported(superblock: Superblock, where: str) -> None:
    refused: list[str] = []
    for kind, mask, writable, known in (
        ("compat", superblock.feature_compat, _COMPAT_WRITABLE, _COMPAT_REFUSED),
        ("incompat", superblock.feature_incompat & ~INCOMPAT_RECOVER, _INCOMPAT_WRITABLE, _INCOMPAT_REFUSED),
        ("ro_compat", superblock.feature_ro_compat, _RO_COMPAT_WRITABLE, _RO_COMPAT_REFUSED),
    ):
        for position in range(32):
            bit = 1 << position
            if mask & bit and bit not in writable:
                refused.append(known.get(bit, f"{kind} {bit:#x}"))
    if refused:
        raise FilesystemError(
            f"the file system in {where} uses features that drypoint cannot write: {', '.join(refused)}. Make it without them "
            f"(mkfs.ext4 -O {','.join(f'^{name}' for name in refused)}), or take them off where tune2fs can"
        )
    if superblock.block_size not in (1024, 2048, 4096, 8192, 16384, 32768):
        raise FilesystemError(
            f"the file system in {where} has blocks of {superblock.block_size} bytes; 1024 to 32768 are supported"
        )
    if superblock.inode_size < 128 or superblock.inode_size > superblock.block_size:
        raise FilesystemError(f"the file system in {where} has inodes of {superblock.inode_size} bytes")
