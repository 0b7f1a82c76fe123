"""Recognition of file systems by their superblocks, to find a partition by label and to name what is refused.

Formats: ext2/3/4 from the kernel's Documentation/filesystems/ext4; FAT from Microsoft's "FAT: General Overview of On-Disk
Format" 1.03; of the others only magic number, label and UUID are read.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec

from ..decompression import PEEK, compression_of
from .device import Device
from .ext4.read.features import feature_names
from .ext4.read.superblock_fields import SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, SuperblockFields, superblock_fields
from .fat.boot_sector import parse_boot_sector
from .filesystem_info import FilesystemInfo, FilesystemKind

PROBED_BYTES = 68 * 1024


def probe(device: Device) -> FilesystemInfo | None:
    """The file system at the start of *device*, or None if none of the known ones is there.

    Raises:
        DiskImageError: the device cannot be read.
    """
    head = device.read(0, min(PROBED_BYTES, device.size)).ljust(PROBED_BYTES, b"\0")
    for read in _PROBES:
        found = read(head, device)
        if found is not None:
            return found
    return None


class BackupSuperblock(msgspec.Struct, frozen=True):
    """A copy of an ext file system's superblock: *block* is its block number, in blocks of *block_size* bytes."""

    block: int
    block_size: int
    info: FilesystemInfo


def probe_backup(device: Device) -> BackupSuperblock | None:
    """The copy of the superblock in block group 1, for a *device* whose primary superblock is destroyed.

    mke2fs gives a group eight times as many blocks as a block has bytes, and puts a copy into group 1 (sparse_super or not).

    Raises:
        DiskImageError: the device cannot be read.
    """
    for block_size in _EXT_BLOCK_SIZES:
        # With blocks of 1 KiB, the first is the boot block, which belongs to no group.
        block = 8 * block_size + (1 if block_size == 1024 else 0)
        offset = block * block_size
        if offset + 1024 > device.size:
            return None
        fields = superblock_fields(device.read(offset, SUPERBLOCK_SIZE))
        info = None if fields is None or fields.group_number != 1 else _ext_info(fields)
        if info is not None and info.block_size == block_size:
            return BackupSuperblock(block, block_size, info)
    return None


def probe_compressed(device: Device) -> str | None:
    """The name of the compression or archive format that *device* starts with, or None."""
    head = device.read(0, min(PEEK, device.size))
    return "zip" if head.startswith(_ZIP) else compression_of(head)


_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""A member, the end of an archive without members, and the first part of a split archive."""

_EXT_BLOCK_SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
_HAS_JOURNAL = 1 << 2
_JOURNAL_DEV = 1 << 3
# Features that ext3 and ext2 know; any other makes it ext4, as blkid(8) judges.
_EXT3_INCOMPAT = 1 << 1 | 1 << 2 | 1 << 4
_EXT3_RO_COMPAT = 1 << 0 | 1 << 1 | 1 << 2


def _ext(head: bytes, _: Device) -> FilesystemInfo | None:
    fields = superblock_fields(head[SUPERBLOCK_OFFSET : SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE])
    return None if fields is None else _ext_info(fields)


def _ext_info(fields: SuperblockFields) -> FilesystemInfo | None:
    if fields.log_block_size >= len(_EXT_BLOCK_SIZES):
        return None
    block_size = _EXT_BLOCK_SIZES[fields.log_block_size]
    return FilesystemInfo(
        _ext_kind(fields),
        label=_text(fields.label),
        uuid=_uuid(fields.uuid),
        block_size=block_size,
        size=fields.blocks_count * block_size,
        features=feature_names(fields.compat, fields.incompat, fields.ro_compat),
    )


def _ext_kind(fields: SuperblockFields) -> FilesystemKind:
    if fields.incompat & _JOURNAL_DEV:
        return FilesystemKind.EXT_JOURNAL
    if fields.incompat & ~_EXT3_INCOMPAT or fields.ro_compat & ~_EXT3_RO_COMPAT:
        return FilesystemKind.EXT4
    return FilesystemKind.EXT3 if fields.compat & _HAS_JOURNAL else FilesystemKind.EXT2


def _fat(head: bytes, device: Device) -> FilesystemInfo | None:
    sector = parse_boot_sector(head)
    if sector is None:
        return None
    boot_label = _oem_text(sector.label)
    # Tools set the root directory's volume entry; the boot sector's copy is often stale.
    label = _fat_root_label(device, *sector.root_directory) or ("" if boot_label == "NO NAME" else boot_label)
    return FilesystemInfo(sector.kind, label, sector.serial, sector.cluster_size, sector.size)


def _fat_root_label(device: Device, offset: int, length: int) -> str:
    if offset < 0 or offset + length > device.size:
        return ""
    root = device.read(offset, length)
    for position in range(0, len(root) - 31, 32):
        name, attributes = root[position : position + 11], root[position + 11]
        if name[0] == 0:
            break
        # 0x0f, all four low bits, marks a part of a long name, not a volume label.
        if name[0] != 0xE5 and attributes & 0x3F != 0x0F and attributes & 0x18 == 0x08:
            return _oem_text(name)
    return ""


def _luks(head: bytes, _: Device) -> FilesystemInfo | None:
    if head[:6] != b"LUKS\xba\xbe":
        return None
    uuid = _text(head[168:208])
    if int.from_bytes(head[6:8], "big") == 1:
        return FilesystemInfo(FilesystemKind.LUKS1, uuid=uuid)
    return FilesystemInfo(FilesystemKind.LUKS2, label=_text(head[24:72]), uuid=uuid)


def _btrfs(head: bytes, _: Device) -> FilesystemInfo | None:
    superblock = head[0x10000:0x11000]
    if superblock[64:72] != b"_BHRfS_M":
        return None
    return FilesystemInfo(
        FilesystemKind.BTRFS,
        label=_text(superblock[0x12B : 0x12B + 256]),
        uuid=_uuid(superblock[32:48]),
        block_size=int.from_bytes(superblock[0x90:0x94], "little"),
        size=int.from_bytes(superblock[0x70:0x78], "little"),
    )


def _f2fs(head: bytes, _: Device) -> FilesystemInfo | None:
    superblock = head[1024:3072]
    if superblock[:4] != b"\x10\x20\xf5\xf2":
        return None
    label = superblock[124 : 124 + 1024].decode("utf-16-le", "replace").partition("\0")[0]
    return FilesystemInfo(FilesystemKind.F2FS, label=label, uuid=_uuid(superblock[108:124]))


def _squashfs(head: bytes, _: Device) -> FilesystemInfo | None:
    if head[:4] != b"hsqs":
        return None
    return FilesystemInfo(
        FilesystemKind.SQUASHFS,
        block_size=int.from_bytes(head[12:16], "little"),
        size=int.from_bytes(head[40:48], "little"),
    )


def _swap(head: bytes, _: Device) -> FilesystemInfo | None:
    # The magic number is at the end of the first page, whose size depends on the machine that made it.
    for page in (4096, 8192, 16384, 32768, 65536):
        if head[page - 10 : page] in (b"SWAPSPACE2", b"SWAP-SPACE"):
            return FilesystemInfo(
                FilesystemKind.SWAP, label=_text(head[1052:1068]), uuid=_uuid(head[1036:1052]), block_size=page
            )
    return None


def _by_magic(kind: FilesystemKind, offset: int, magic: bytes) -> Callable[[bytes, Device], FilesystemInfo | None]:
    def read(head: bytes, _: Device) -> FilesystemInfo | None:
        return FilesystemInfo(kind) if head[offset : offset + len(magic)] == magic else None

    return read


def _xfs(head: bytes, _: Device) -> FilesystemInfo | None:
    if head[:4] != b"XFSB":
        return None
    return FilesystemInfo(FilesystemKind.XFS, label=_text(head[108:120]), uuid=_uuid(head[32:48]))


# LUKS and the file systems with a magic number at offset 0 come before ext, which leaves its first 1,024 bytes alone:
# such a magic number is newer than an ext superblock that may be left behind it.
_PROBES: tuple[Callable[[bytes, Device], FilesystemInfo | None], ...] = (
    _luks,
    _squashfs,
    _xfs,
    _by_magic(FilesystemKind.EXFAT, 3, b"EXFAT   "),
    _by_magic(FilesystemKind.NTFS, 3, b"NTFS    "),
    _by_magic(FilesystemKind.LVM, 512, b"LABELONE"),
    _f2fs,
    _by_magic(FilesystemKind.EROFS, 1024, b"\xe2\xe1\xf5\xe0"),
    _ext,
    _btrfs,
    _fat,
    _swap,
    _by_magic(FilesystemKind.ISO9660, 32769, b"CD001"),
)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def _oem_text(data: bytes) -> str:
    return data.decode("cp437").rstrip(" \0")


def _uuid(data: bytes) -> str:
    return str(UUID(bytes=data)) if any(data) else ""
