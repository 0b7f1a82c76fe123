"""The file systems that drypoint knows by name, and what is read of one to recognize it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


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
