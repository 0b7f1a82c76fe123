"""Extended attributes, with the names and values that ``getxattr`` returns.

Format: the kernel's Documentation/filesystems/ext4 (attributes.rst); access control lists as in fs/ext4/acl.h on the disk and
as in include/uapi/linux/posix_acl_xattr.h for programs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec

from .blocks import Cache, Volume
from .inodes import EA_INODE_FLAG, INLINE_DATA_FLAG, Inode
from .superblocks import crc32c, stored

_MAGIC = 0xEA020000
_BLOCK_HEADER = struct.Struct("<5I12x")
_BLOCK_CHECKSUM_AT = 16
_ENTRY = struct.Struct("<BBHIII")
_MAX_VALUE = 65536
_BLOCKS_CACHED = 512

_PREFIXES = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
    7: b"system.",
    8: b"system.richacl",
    10: b"gnu.",
}
_ACCESS_CONTROL_LISTS = (b"system.posix_acl_access", b"system.posix_acl_default")
_INLINE_DATA = b"system.data"

_ACL_VERSION, _ACL_PROGRAM_VERSION = 1, 2
_ACL_NAMED_TAGS, _ACL_PLAIN_TAGS = frozenset({0x02, 0x08}), frozenset({0x01, 0x04, 0x10, 0x20})
_ACL_NO_ID = 0xFFFFFFFF

ValueReader = Callable[[int], tuple[Inode, bytes]]
"""Returns the inode of that number, with at most 64 KiB, and its content."""


class Attributes(msgspec.Struct, frozen=True):
    """An inode's extended attributes, sorted by name, and the inline data that does not fit into ``i_block``."""

    xattrs: tuple[tuple[bytes, bytes], ...]
    inline_data: bytes


_NONE = Attributes((), b"")


class AttributeReader:
    """Reads the extended attributes of inodes; shared blocks are read once."""

    def __init__(self, volume: Volume, value_of: ValueReader) -> None:
        self._volume = volume
        self._value_of = value_of
        self._blocks: Cache[int, bytes] = Cache(_BLOCKS_CACHED)

    def read(self, inode: Inode) -> Attributes:
        """The attributes of *inode*.

        Raises:
            FilesystemError: they are damaged, or have an unknown name index.
        """
        pairs: list[tuple[bytes, bytes]] = []
        area = inode.xattr_area
        if len(area) > 8:
            pairs.extend(self._entries(inode, area, 4, 4))
        if inode.xattr_block:
            block = self._block(inode)
            pairs.extend(self._entries(inode, block, _BLOCK_HEADER.size, 0))
        if not pairs:
            return _NONE
        inline_data = b""
        if inode.flags & INLINE_DATA_FLAG:
            inline_data = next((value for name, value in pairs if name == _INLINE_DATA), b"")
        visible = sorted(pair for pair in pairs if pair[0] != _INLINE_DATA)
        for (name, _), (following, _) in pairwise(visible):
            if name == following:
                raise self._damage(inode, f"{name!r} is there twice")
        return Attributes(tuple(visible), inline_data)

    def _entries(self, inode: Inode, raw: bytes, start: int, values_from: int) -> Iterator[tuple[bytes, bytes]]:
        """The attributes whose entries start at *start* of *raw*; offsets of values count from *values_from*."""
        position = start
        while position + 4 <= len(raw) and raw[position : position + 4] != b"\0\0\0\0":
            if position + _ENTRY.size > len(raw):
                raise self._damage(inode, "an entry runs over the end")
            name_length, index, offset, value_inode, size, _ = _ENTRY.unpack_from(raw, position)
            name_end = position + _ENTRY.size + name_length
            if name_end > len(raw):
                raise self._damage(inode, "a name runs over the end")
            prefix = _PREFIXES.get(index)
            if prefix is None:
                raise self._damage(inode, f"one has the unknown kind {index}")
            name = prefix + raw[position + _ENTRY.size : name_end]
            if value_inode:
                value = self._value(inode, name, value_inode, size)
            else:
                begin = values_from + offset
                if size and not start <= begin <= len(raw) - size:
                    raise self._damage(inode, f"the value of {name!r} runs over the end")
                value = raw[begin : begin + size]
            if name in _ACCESS_CONTROL_LISTS:
                value = self._access_control_list(inode, name, value)
            yield name, value
            position += (_ENTRY.size + name_length + 3) & ~3

    def _block(self, inode: Inode) -> bytes:
        number = inode.xattr_block
        raw = self._blocks.get(number)
        if raw is not None:
            return raw
        raw = self._volume.read(number, 1, f"the attribute block of inode {inode.number}")
        magic, _, blocks, _, checksum = _BLOCK_HEADER.unpack_from(raw)
        if magic != _MAGIC or blocks != 1:
            raise self._damage(inode, f"block {number} is not an attribute block")
        if self._volume.superblock.has("metadata_csum"):
            crc = crc32c(struct.pack("<Q", number), self._volume.superblock.checksum_seed)
            crc = crc32c(raw[:_BLOCK_CHECKSUM_AT] + b"\0\0\0\0" + raw[_BLOCK_CHECKSUM_AT + 4 :], crc)
            if stored(crc) != checksum:
                raise self._damage(inode, f"the checksum of block {number} is wrong")
        self._blocks.put(number, raw)
        return raw

    def _value(self, inode: Inode, name: bytes, number: int, size: int) -> bytes:
        if not self._volume.superblock.has("ea_inode"):
            raise self._damage(inode, f"the value of {name!r} lies in another inode, without the feature ea_inode")
        if size > _MAX_VALUE:
            raise self._damage(inode, f"the value of {name!r} claims {size} bytes")
        holder, value = self._value_of(number)
        if not holder.flags & EA_INODE_FLAG or len(value) != size:
            raise self._damage(inode, f"inode {number} does not hold the value of {name!r}")
        # Inodes made by Lustre refer to their only owner and have no hash.
        points_back = holder.generation == inode.generation and holder.mtime // 1_000_000_000 == inode.number
        if stored(crc32c(value, self._volume.superblock.checksum_seed)) != holder.value_hash and not points_back:
            raise self._damage(inode, f"the checksum of the value of {name!r} is wrong")
        return value

    def _access_control_list(self, inode: Inode, name: bytes, value: bytes) -> bytes:
        if len(value) < 4 or value[:4] != struct.pack("<I", _ACL_VERSION):
            raise self._damage(inode, f"{name!r} is of an unknown version")
        converted = [struct.pack("<I", _ACL_PROGRAM_VERSION)]
        position = 4
        while position < len(value):
            if position + 4 > len(value):
                raise self._damage(inode, f"{name!r} is cut short")
            tag, permissions = struct.unpack_from("<HH", value, position)
            position += 4
            identity = _ACL_NO_ID
            if tag in _ACL_NAMED_TAGS:
                if position + 4 > len(value):
                    raise self._damage(inode, f"{name!r} is cut short")
                identity = struct.unpack_from("<I", value, position)[0]
                position += 4
            elif tag not in _ACL_PLAIN_TAGS:
                raise self._damage(inode, f"{name!r} holds the unknown tag {tag:#x}")
            converted.append(struct.pack("<HHI", tag, permissions, identity))
        return b"".join(converted)

    def _damage(self, inode: Inode, why: str) -> Exception:
        return self._volume.damage(f"an extended attribute of inode {inode.number}", why)
