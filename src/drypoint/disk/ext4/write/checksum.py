"""CRC-32C as in ext4: from a seed, and without inversion at either end.

Source: the kernel's Documentation/filesystems/ext4/checksums.rst; e2fsprogs' lib/ext2fs/csum.c.
"""

from __future__ import annotations

from fastcrc import crc32

from .superblock import Superblock

_INVERTED = 0xFFFFFFFF
_GENERATION = slice(100, 104)


def crc32c(seed: int, data: bytes) -> int:
    """The checksum of *data*, continued from *seed*."""
    return crc32.iscsi(data, seed ^ _INVERTED) ^ _INVERTED


def file_system_seed(superblock: Superblock) -> int:
    """The seed of all checksums of a file system."""
    stored = superblock.checksum_seed
    return crc32c(_INVERTED, superblock.uuid) if stored is None else stored


def inode_seed(seed: int, ino: int, generation: int) -> int:
    """The seed of the checksums of an inode and of the blocks that only it owns; *seed* is the file system's."""
    return crc32c(seed, ino.to_bytes(4, "little") + generation.to_bytes(4, "little"))


def inode_checksum(seed: int, ino: int, raw: bytes) -> int:
    """The checksum of the inode *raw*, in which it is 0; *seed* is the file system's."""
    owner = crc32.iscsi(ino.to_bytes(4, "little") + raw[_GENERATION], seed ^ _INVERTED)
    return crc32.iscsi(raw, owner) ^ _INVERTED
