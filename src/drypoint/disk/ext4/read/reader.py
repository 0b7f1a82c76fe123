"""A reader of ext2, ext3 and ext4 file systems, without a mount and without the library that writes them.

All input counts as hostile: a structure that contradicts itself or its checksum raises FilesystemError, no number from the
disk decides how much memory is used, and no chain of blocks or directories can form a cycle.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from operator import attrgetter
from stat import S_IFMT, S_IFREG

from ....errors import DiskImageError, FilesystemError
from ....fstree.entry import (
    BlockDevice,
    CharDevice,
    Directory,
    Entry,
    Fifo,
    Metadata,
    Regular,
    Socket,
    Symlink,
)
from ....fstree.path import join
from ....fstree.protocols import Stat
from ....lanes import ENABLED
from ...device import Device
from .block_maps import Extent, extents, sole_extent
from .blocks import Cache, Volume
from .directories import DirectoryEntry, DirectoryParser
from .groups import Group
from .inodes import EXTENTS_FLAG, INLINE_DATA_FLAG, Inode, InodeTable, device_number
from .superblocks import ROOT_INODE, Superblock
from .xattrs import AttributeReader

if ENABLED:
    from ._plain_lane import PlainInodes

_CHUNK = 1 << 20
_SMALL, _AHEAD = 64 << 10, 256 << 10
_ZEROS = memoryview(bytes(_CHUNK))
_FAST_SYMLINK = 60
_LONGEST_TARGET = 4096
_LARGEST_VALUE = 65536
_ENTRIES_CACHED = 1 << 17
_DIRECTORIES_CACHED = 1 << 14

_MAYBE_REGULAR = (1, 0)
"""The type of a regular file in a directory entry, or of anything where types are not recorded."""
_INODE_NUMBER = attrgetter("inode")
_FILE_TYPES = {
    1: stat.S_IFREG,
    2: stat.S_IFDIR,
    3: stat.S_IFCHR,
    4: stat.S_IFBLK,
    5: stat.S_IFIFO,
    6: stat.S_IFSOCK,
    7: stat.S_IFLNK,
}


class Ext4Reader:
    """The tree in the ext2, ext3 or ext4 file system on *device* (a TreeReader). Threads may share one.

    Args:
        allow_dirty: read although the journal must be replayed. The data may then be older than what the kernel would show, or
            torn.
        lane: whether a compiled lane reads plain files, which must be there then (:data:`drypoint.lanes.ENABLED`).

    Raises:
        FilesystemError: no such file system, an unsupported feature, damage, or a journal to be replayed.
    """

    def __init__(self, device: Device, *, allow_dirty: bool = False, lane: bool = ENABLED) -> None:
        self._volume = Volume(device)
        if not allow_dirty:
            self.check_recovered()
        self._inodes = InodeTable(self._volume)
        self._plain = PlainInodes(self._inodes, self.superblock) if lane else None
        self._attributes = AttributeReader(self._volume, self._value_inode)
        self._names: Cache[int, tuple[int, dict[bytes, DirectoryEntry]]] = Cache(_ENTRIES_CACHED)
        self._ahead = (0, b"")
        self._paths: Cache[bytes, tuple[int, int]] = Cache(_DIRECTORIES_CACHED)

    @property
    def superblock(self) -> Superblock:
        return self._volume.superblock

    @property
    def needs_recovery(self) -> bool:
        """Whether the journal must be replayed."""
        return self.superblock.has("needs_recovery")

    def check_recovered(self) -> None:
        """Refuse a file system whose journal holds changes that are not in place yet.

        Raises:
            FilesystemError: it does.
        """
        if self.needs_recovery:
            raise FilesystemError(
                f"the file system on {self._volume.name} was not unmounted: its journal needs recovery; "
                "run e2fsck on it, or mount and unmount it once"
            )

    def groups(self) -> Iterator[Group]:
        """Every block group's descriptor, in order."""
        return self._volume.groups()

    def lookup(self, path: bytes) -> Stat | None:
        found = self._find(path)
        return None if found is None else self._stat(path, found[0])

    def children(self, directory: Directory) -> Iterator[Stat]:
        """The entries of *directory*, in the order of their inodes, which is their order on the disk.

        Raises:
            FilesystemError: damage, or *directory* is not a directory of this tree.
        """
        path = directory.path
        found = self._find(path)
        if found is None or not found[0].is_directory:
            raise FilesystemError(f"{path!r} is not a directory of the file system on {self._volume.name}")
        prefix = path + b"/" if path else b""
        plain = self._plain
        for entry in sorted(self._entries(*found).values(), key=_INODE_NUMBER):
            here = prefix + entry.name
            stat = plain.stat(here, entry.inode) if plain is not None and entry.kind in _MAYBE_REGULAR else None
            yield self._stat(here, self._named(found[0], entry)) if stat is None else stat

    def read(self, stat: Stat) -> Iterator[memoryview]:
        placed = self._plain.place(stat.inode) if self._plain is not None else None
        if placed is not None and (content := self._whole(*placed, stat.inode)) is not None:
            return iter((content,))
        inode = self._inodes.inode(stat.inode)
        if not _has_type(inode, S_IFREG):
            raise FilesystemError(
                f"{stat.entry.path!r} is not a regular file of the file system on {self._volume.name}"
            )
        whole = self._small(inode)
        return self._content(inode) if whole is None else iter((whole,))

    def extents(self, stat: Stat) -> Iterator[Extent]:
        """The extents of a regular file, in order, without holes; unwritten ones are at block 0.

        Raises:
            FilesystemError: damage; or it is not a regular file of this tree, or its content is in its inode.
        """
        inode = self._inodes.inode(stat.inode)
        if not _has_type(inode, S_IFREG):
            raise FilesystemError(
                f"{stat.entry.path!r} is not a regular file of the file system on {self._volume.name}"
            )
        if inode.flags & INLINE_DATA_FLAG:
            raise FilesystemError(
                f"{stat.entry.path!r} on {self._volume.name} has no blocks: its content is in its inode"
            )
        return extents(self._volume, inode)

    def _find(self, path: bytes) -> tuple[Inode, int] | None:
        """The inode at *path*, and its parent's inode number; the root is its own parent."""
        ancestor = path
        known = self._paths.get(ancestor)
        while known is None and ancestor:
            ancestor = ancestor.rpartition(b"/")[0]
            known = self._paths.get(ancestor)
        number, parent = known or (ROOT_INODE, ROOT_INODE)
        inode = self._inodes.inode(number)
        if known is None and not inode.is_directory:
            raise self._volume.damage("the root", "it is not a directory")
        here = ancestor
        rest = path[len(ancestor) :].lstrip(b"/")
        for name in rest.split(b"/") if rest else ():
            if not inode.is_directory:
                return None
            entry = self._entries(inode, parent).get(name)
            if entry is None:
                return None
            parent, inode = inode.number, self._named(inode, entry)
            here = join(here, name)
            if inode.is_directory:
                self._paths.put(here, (inode.number, parent))
        return inode, parent

    def _named(self, directory: Inode, entry: DirectoryEntry) -> Inode:
        inode = self._inodes.inode(entry.inode)
        if entry.kind and _FILE_TYPES.get(entry.kind) != S_IFMT(inode.mode):
            raise self._volume.damage(
                f"directory inode {directory.number}", f"it says that inode {entry.inode} is of another type than it is"
            )
        return inode

    def _entries(self, directory: Inode, parent: int) -> dict[bytes, DirectoryEntry]:
        """The entries of *directory* by name; *parent* is the inode of the directory that it was reached through."""
        found = self._names.get(directory.number)
        if found is None:
            found = self._parsed(directory)
            self._names.put(directory.number, found, len(found[1]) + 1)
        named_parent, names = found
        # Every directory names one parent: checking it excludes cycles.
        if named_parent != parent:
            raise self._volume.damage(
                f"directory inode {directory.number}",
                f"its parent is inode {named_parent}, but the directory inode {parent} holds it",
            )
        return names

    def _parsed(self, directory: Inode) -> tuple[int, dict[bytes, DirectoryEntry]]:
        """The parent's inode number, and the entries by name without ``.`` and ``..``."""
        owner = f"directory inode {directory.number}"
        names: dict[bytes, DirectoryEntry] = {}
        parser = DirectoryParser(self._volume, directory)
        if directory.flags & INLINE_DATA_FLAG:
            lists = iter([parser.inline(directory.block, self._attributes.read(directory).inline_data)])
        else:
            lists = (parser.block(block) for block in self._directory_blocks(directory))
        for entries in lists:
            for entry in entries:
                if entry.name in names:
                    raise self._volume.damage(owner, f"it names {entry.name!r} twice")
                names[entry.name] = entry
        itself, parent = names.pop(b".", None), names.pop(b"..", None)
        if itself is None or parent is None or itself.inode != directory.number:
            raise self._volume.damage(owner, "it does not name itself and its parent")
        return parent.inode, names

    def _directory_blocks(self, directory: Inode) -> Iterator[memoryview]:
        superblock = self.superblock
        owner = f"directory inode {directory.number}"
        count, rest = divmod(directory.size, superblock.block_size)
        # No block belongs to a directory twice, so a valid one is not larger than the file system.
        if rest or not 0 < count <= superblock.blocks_count:
            raise self._volume.damage(owner, f"it claims to be {directory.size} bytes long")
        position = 0
        at_once = max(1, _CHUNK // superblock.block_size)
        for extent in extents(self._volume, directory):
            if position >= count:
                break
            if extent.logical != position or not extent.physical:
                raise self._volume.damage(owner, f"its block {position} is missing")
            length = min(extent.length, count - position)
            for done in range(0, length, at_once):
                part = min(at_once, length - done)
                raw = memoryview(self._volume.read(extent.physical + done, part, owner))
                for offset in range(0, len(raw), superblock.block_size):
                    yield raw[offset : offset + superblock.block_size]
            position += length
        if position != count:
            raise self._volume.damage(owner, f"its block {position} is missing")

    def _small(self, inode: Inode) -> memoryview | None:
        """The content of a small file with one extent, as nearly all files are; None for any other."""
        if not 0 < inode.size <= _SMALL or inode.flags & INLINE_DATA_FLAG:
            return None
        extent = sole_extent(self._volume, inode)
        return None if extent is None else self._whole(inode.size, *extent, inode.number)

    def _whole(self, size: int, physical: int, length: int, number: int) -> memoryview | None:
        """The *size* bytes at block *physical*; None if that is nothing, or not small, or more than *length* blocks."""
        block_size = self.superblock.block_size
        blocks = -(-size // block_size)
        if not 0 < size <= _SMALL or blocks > length:
            return None
        # Small files were written one after the other: the next one read most likely follows this one. As one value, because
        # other threads may replace it.
        first, data = self._ahead
        start = (physical - first) * block_size
        if not 0 <= start <= len(data) - blocks * block_size:
            goes_on = start == len(data)
            start, data = 0, self._read_ahead(physical, blocks, goes_on, number)
            self._ahead = physical, data
        return memoryview(data)[start : start + size]

    def _read_ahead(self, physical: int, blocks: int, goes_on: bool, number: int) -> bytes:
        superblock = self.superblock
        owner = f"inode {number}"
        if goes_on:
            more = min(_AHEAD // superblock.block_size, superblock.blocks_count - physical)
            # An error after the end of the file is not a fault of the file.
            with suppress(DiskImageError):
                return self._volume.read(physical, max(blocks, more), owner)
        return self._volume.read(physical, blocks, owner)

    def _content(self, inode: Inode) -> Iterator[memoryview]:
        block_size = self.superblock.block_size
        owner = f"inode {inode.number}"
        if inode.flags & INLINE_DATA_FLAG:
            data = inode.block + self._attributes.read(inode).inline_data
            if inode.size > len(data):
                raise self._volume.damage(owner, f"it claims {inode.size} bytes, but holds {len(data)}")
            yield memoryview(data)[: inode.size]
            return
        if inode.size > block_size << 32:
            raise self._volume.damage(owner, f"it claims to be {inode.size} bytes long")
        position = 0
        at_once = max(1, _CHUNK // block_size)
        for extent in extents(self._volume, inode):
            start = extent.logical * block_size
            if start >= inode.size:
                break
            end = min(start + extent.length * block_size, inode.size)
            if start > position:
                yield from _zeros(start - position)
            if extent.physical:
                blocks = -(-(end - start) // block_size)
                for done in range(0, blocks, at_once):
                    raw = self._volume.read(extent.physical + done, min(at_once, blocks - done), owner)
                    yield memoryview(raw)[: end - start - done * block_size]
            else:
                yield from _zeros(end - start)
            position = end
        if position < inode.size:
            yield from _zeros(inode.size - position)

    def _value_inode(self, number: int) -> tuple[Inode, bytes]:
        inode = self._inodes.inode(number)
        # Inline data would be an attribute itself, possibly with its value in this same inode.
        if not _has_type(inode, S_IFREG) or inode.size > _LARGEST_VALUE or inode.flags & INLINE_DATA_FLAG:
            raise self._volume.damage(f"inode {number}", "it cannot hold the value of an extended attribute")
        return inode, b"".join(self._content(inode))

    def _stat(self, path: bytes, inode: Inode) -> Stat:
        xattrs = self._attributes.read(inode).xattrs if inode.xattr_block or inode.xattr_area else ()
        metadata = Metadata(inode.mode & 0o7777, inode.uid, inode.gid, inode.mtime, xattrs)
        return Stat(self._entry(path, inode, metadata), inode.number, inode.links)

    def _entry(self, path: bytes, inode: Inode, metadata: Metadata) -> Entry:
        match S_IFMT(inode.mode):
            case stat.S_IFREG:
                return Regular(path, metadata, inode.size)
            case stat.S_IFDIR:
                return Directory(path, metadata)
            case stat.S_IFLNK:
                return Symlink(path, metadata, self._target(inode))
            case stat.S_IFCHR:
                return CharDevice(path, metadata, *device_number(inode.block))
            case stat.S_IFBLK:
                return BlockDevice(path, metadata, *device_number(inode.block))
            case stat.S_IFIFO:
                return Fifo(path, metadata)
            case stat.S_IFSOCK:
                return Socket(path, metadata)
            case unknown:
                raise self._volume.damage(f"inode {inode.number}", f"its type, {unknown:#o}, does not exist")

    def _target(self, inode: Inode) -> bytes:
        if not 0 < inode.size <= _LONGEST_TARGET:
            raise self._volume.damage(f"symbolic link inode {inode.number}", f"its target has {inode.size} bytes")
        if inode.size < _FAST_SYMLINK and not inode.flags & (EXTENTS_FLAG | INLINE_DATA_FLAG):
            target = inode.block[: inode.size]
        else:
            target = b"".join(self._content(inode))
        if b"\0" in target:
            raise self._volume.damage(f"symbolic link inode {inode.number}", "its target holds a NUL byte")
        return target


def _has_type(inode: Inode, file_type: int) -> bool:
    return S_IFMT(inode.mode) == file_type


def _zeros(length: int) -> Iterator[memoryview]:
    while length > 0:
        yield _ZEROS[:length]
        length -= _CHUNK
