"""Recognition of file systems by their superblocks, to find a partition by label and to name what is refused.

Formats: ext2/3/4 from the kernel's Documentation/filesystems/ext4; FAT from Microsoft's "FAT: General Overview of On-Disk
Format" 1.03; of the others only magic number, label and UUID are read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import StrEnum
from uuid import UUID

import msgspec

from ..decompression import PEEK, compression_of
from .device import Device

PROBED_BYTES = 68 * 1024


class FilesystemKind(StrEnum):
    """Known file systems, and containers that take a file system's place."""

    EXT2 = "ext2"
    EXT3 = "ext3"
    EXT4 = "ext4"
    EXT_JOURNAL = "journal of an ext file system elsewhere"
    FAT12 = "FAT12"
    FAT16 = "FAT16"
    FAT32 = "FAT32"
    FAT_ATARI = "FAT in its Atari variant"
    EXFAT = "exFAT"
    NTFS = "NTFS"
    LUKS1 = "LUKS1"
    LUKS2 = "LUKS2"
    LVM = "LVM physical volume"
    BTRFS = "btrfs"
    F2FS = "f2fs"
    XFS = "XFS"
    SQUASHFS = "squashfs"
    EROFS = "EROFS"
    ISO9660 = "ISO 9660"
    SWAP = "swap"

    @property
    def is_ext(self) -> bool:
        return self in (FilesystemKind.EXT2, FilesystemKind.EXT3, FilesystemKind.EXT4)

    @property
    def is_luks(self) -> bool:
        return self in (FilesystemKind.LUKS1, FilesystemKind.LUKS2)

    @property
    def is_fat(self) -> bool:
        return self in (FilesystemKind.FAT12, FilesystemKind.FAT16, FilesystemKind.FAT32)


class FilesystemInfo(msgspec.Struct, frozen=True):
    """A superblock's own description; only the magic number and what reading needs are checked.

    *size* and *block_size* are in bytes, 0 where they are not read from that format's superblock. *features* are named as
    dumpe2fs names them (ext only); unknown bits appear as ``FEATURE_C12`` and the like, as there.
    """

    kind: FilesystemKind
    label: str = ""
    uuid: str = ""
    block_size: int = 0
    size: int = 0
    features: tuple[str, ...] = ()


def kind_name(filesystem: FilesystemInfo | None) -> str:
    """What messages say that a partition holds."""
    return "no known file system" if filesystem is None else filesystem.kind.value


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
        superblock = device.read(offset, 1024)
        info = _ext(bytes(1024) + superblock, device)
        if info is not None and info.block_size == block_size and superblock[90:92] == b"\1\0":
            return BackupSuperblock(block, block_size, info)
    return None


def probe_compressed(device: Device) -> str | None:
    """The name of the compression or archive format that *device* starts with, or None."""
    head = device.read(0, min(PEEK, device.size))
    return "zip" if head.startswith(_ZIP) else compression_of(head)


_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""A member, the end of an archive without members, and the first part of a split archive."""

_EXT_COMPAT = {
    0: "dir_prealloc",
    1: "imagic_inodes",
    2: "has_journal",
    3: "ext_attr",
    4: "resize_inode",
    5: "dir_index",
    6: "lazy_bg",
    8: "snapshot_bitmap",
    9: "sparse_super2",
    10: "fast_commit",
    11: "stable_inodes",
    12: "orphan_file",
}
_EXT_INCOMPAT = {
    0: "compression",
    1: "filetype",
    2: "needs_recovery",
    3: "journal_dev",
    4: "meta_bg",
    6: "extent",
    7: "64bit",
    8: "mmp",
    9: "flex_bg",
    10: "ea_inode",
    12: "dirdata",
    13: "metadata_csum_seed",
    14: "large_dir",
    15: "inline_data",
    16: "encrypt",
    17: "casefold",
}
_EXT_RO_COMPAT = {
    0: "sparse_super",
    1: "large_file",
    3: "huge_file",
    4: "uninit_bg",
    5: "dir_nlink",
    6: "extra_isize",
    7: "snapshot",
    8: "quota",
    9: "bigalloc",
    10: "metadata_csum",
    11: "replica",
    12: "read-only",
    13: "project",
    14: "shared_blocks",
    15: "verity",
    16: "orphan_present",
}
_EXT_BLOCK_SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
_JOURNAL_DEV = 1 << 3
# Features that ext3 and ext2 know; any other makes it ext4, as blkid(8) judges.
_EXT3_INCOMPAT = 1 << 1 | 1 << 2 | 1 << 4
_EXT3_RO_COMPAT = 1 << 0 | 1 << 1 | 1 << 2


def _feature_names(bits: int, names: dict[int, str], letter: str) -> list[str]:
    return [names.get(bit, f"FEATURE_{letter}{bit}") for bit in range(32) if bits & 1 << bit]


def _ext(head: bytes, _: Device) -> FilesystemInfo | None:
    superblock = head[1024:2048]
    if superblock[56:58] != b"\x53\xef":
        return None
    compat, incompat, ro_compat = struct.unpack_from("<III", superblock, 92)
    (log_block_size,) = struct.unpack_from("<I", superblock, 24)
    if log_block_size > 6:
        return None
    if incompat & _JOURNAL_DEV:
        kind = FilesystemKind.EXT_JOURNAL
    elif incompat & ~_EXT3_INCOMPAT or ro_compat & ~_EXT3_RO_COMPAT:
        kind = FilesystemKind.EXT4
    else:
        kind = FilesystemKind.EXT3 if compat & 1 << 2 else FilesystemKind.EXT2
    (blocks,) = struct.unpack_from("<I", superblock, 4)
    if incompat & 1 << 7:
        blocks |= int.from_bytes(superblock[0x150:0x154], "little") << 32
    block_size = 1024 << log_block_size
    return FilesystemInfo(
        kind,
        label=_text(superblock[120:136]),
        uuid=_uuid(superblock[104:120]),
        block_size=block_size,
        size=blocks * block_size,
        features=tuple(
            _feature_names(compat, _EXT_COMPAT, "C")
            + _feature_names(incompat, _EXT_INCOMPAT, "I")
            + _feature_names(ro_compat, _EXT_RO_COMPAT, "R")
        ),
    )


_ATARI_JUMP = b"\x60\x1c"
"""``bra.s``: the start of a boot sector by ``mkfs.vfat -A``."""


def _fat(head: bytes, device: Device) -> FilesystemInfo | None:
    is_atari = head[:2] == _ATARI_JUMP
    if not is_atari and (head[510:512] != b"\x55\xaa" or head[0] not in (0xEB, 0xE9)):
        return None
    (
        sector_size,
        sectors_per_cluster,
        reserved,
        fats,
        root_entries,
        sectors_16,
        media,
        fat_size_16,
    ) = struct.unpack_from("<HBHBHHBH", head, 11)
    sectors_32, fat_size_32 = struct.unpack_from("<II", head, 32)
    if (
        sector_size not in (512, 1024, 2048, 4096)
        or sectors_per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128)
        or not fats
        or not reserved
        or (media != 0xF0 and media < 0xF8)
    ):
        return None
    sectors = sectors_16 or sectors_32
    fat_size = fat_size_16 or fat_size_32
    root_sectors = -(-root_entries * 32 // sector_size)
    data_start = reserved + fats * fat_size + root_sectors
    if not fat_size or sectors <= data_start:
        return None
    clusters = (sectors - data_start) // sectors_per_cluster
    if not fat_size_16:
        kind = FilesystemKind.FAT32
        root_cluster = struct.unpack_from("<I", head, 44)[0]
        root_offset = (data_start + (root_cluster - 2) * sectors_per_cluster) * sector_size
        root_length = sectors_per_cluster * sector_size
        boot = 64
    else:
        kind = FilesystemKind.FAT12 if clusters < 4085 else FilesystemKind.FAT16
        root_offset = (data_start - root_sectors) * sector_size
        root_length = root_entries * 32
        boot = 36
    if is_atari:
        # It numbers clusters in 16 bits where others use 12, and its boot sector has no signature.
        kind = FilesystemKind.FAT_ATARI
    has_extended_boot = head[boot + 2] == 0x29
    serial = head[boot + 3 : boot + 7][::-1].hex().upper() if has_extended_boot else ""
    boot_label = _oem_text(head[boot + 7 : boot + 18]) if has_extended_boot else ""
    # Tools set the root directory's volume entry; the boot sector's copy is often stale.
    label = _fat_root_label(device, root_offset, root_length) or ("" if boot_label == "NO NAME" else boot_label)
    return FilesystemInfo(
        kind,
        label=label,
        uuid=f"{serial[:4]}-{serial[4:]}" if serial else "",
        block_size=sectors_per_cluster * sector_size,
        size=sectors * sector_size,
    )


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
