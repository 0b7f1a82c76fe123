"""Directory blocks: parsing existing ones, and laying out whole new directories.

Format: the kernel's Documentation/filesystems/ext4/directory.rst ("Linear (Classic) Directories"); the indexed form is in
:mod:`drypoint.disk.ext4.write.htree`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ....errors import FilesystemError
from .checksum import crc32c
from .filesystem import Ext4Filesystem

FT_UNKNOWN = 0
FT_REGULAR = 1
FT_DIRECTORY = 2
FT_CHAR_DEVICE = 3
FT_BLOCK_DEVICE = 4
FT_FIFO = 5
FT_SOCKET = 6
FT_SYMLINK = 7

NAME_MAX = 255
DOTS_SIZE = 24
TAIL_SIZE = 12
LONGEST_ENTRY = 264

_HEAD = struct.Struct("<IHBB")
# An entry with its name, padded with zeros to a multiple of 4; the index is a quarter of its length.
_ENTRIES = tuple(struct.Struct(f"<IHBB{max(0, 4 * quarter - 8)}s") for quarter in range(LONGEST_ENTRY // 4 + 1))
_TAIL = struct.Struct("<IHBBI")
_TAIL_TYPE = 0xDE

NamedInode = tuple[bytes, int, int]
"""A directory entry: name, inode number, file type (one of the FT numbers)."""


def entry_size(name: bytes) -> int:
    """Bytes of an entry *name*."""
    return len(name) + 11 & ~3


def parse_block(block: bytes, where: str) -> list[NamedInode]:
    """The used entries of one directory block, including ``.`` and ``..``; empty for an index block.

    Raises:
        FilesystemError: an entry leaves the block or its record.
    """
    found: list[NamedInode] = []
    position = 0
    while position < len(block):
        if position + 8 > len(block):
            raise FilesystemError(
                f"{where}: a directory entry starts at byte {position} of {len(block)}; run e2fsck -f"
            )
        ino, length, name_length, file_type = _HEAD.unpack_from(block, position)
        if length < 8 or length & 3 or position + length > len(block) or 8 + name_length > length:
            raise FilesystemError(f"{where}: the directory entry at byte {position} is damaged; run e2fsck -f")
        if ino:
            found.append((block[position + 8 : position + 8 + name_length], ino, file_type))
        position += length
    return found


class BlockPacker:
    """Packs entries into directory blocks, one after the other.

    Blocks have no checksum yet, which :func:`seal` adds.
    """

    def __init__(self, room: int, *, filetype: bool) -> None:
        self._room = room
        self._filetype = filetype
        self._parts: list[bytes] = []
        self._used = 0
        self._last = b""

    def put(self, entry: NamedInode) -> bytes | None:
        """Add *entry*. If it does not fit into the current block, that is returned, and *entry* starts the next one."""
        name, ino, file_type = entry
        size = len(name) + 11 & ~3
        full = self.take() if self._used + size > self._room else None
        if self._used:
            self._parts.append(self._last)
        self._last = _ENTRIES[size >> 2].pack(ino, size, len(name), file_type if self._filetype else 0, name)
        self._used += size
        return full

    def take(self) -> bytes:
        """The current block, with its last entry extended to the end; the packer is empty afterwards."""
        length = self._room - self._used + len(self._last)
        self._parts += (self._last[:4], length.to_bytes(2, "little"), self._last[6:].ljust(length - 6, b"\0"))
        block = b"".join(self._parts)
        self._parts, self._used = [], 0
        return block


def linear_blocks(
    filesystem: Ext4Filesystem, seed: int, ino: int, parent: int, entries: Iterable[NamedInode]
) -> list[bytes]:
    """The blocks of a directory without index for inode *ino*, whose checksums start from *seed*."""
    packer = BlockPacker(leaf_room(filesystem), filetype=filesystem.superblock.filetype)
    packer.put((b".", ino, FT_DIRECTORY))
    packer.put((b"..", parent, FT_DIRECTORY))
    blocks = [full for entry in entries if (full := packer.put(entry)) is not None]
    blocks.append(packer.take())
    return [seal(filesystem, seed, block) for block in blocks]


def leaf_room(filesystem: Ext4Filesystem) -> int:
    """Bytes for entries in one directory block."""
    return filesystem.block_size - (TAIL_SIZE if filesystem.superblock.metadata_csum else 0)


def seal(filesystem: Ext4Filesystem, seed: int, block: bytes) -> bytes:
    """Add the checksum, which starts from the inode's *seed*, to a block of entries, if the file system has checksums."""
    if not filesystem.superblock.metadata_csum:
        return block
    return block + _TAIL.pack(0, TAIL_SIZE, 0, _TAIL_TYPE, crc32c(seed, block))
