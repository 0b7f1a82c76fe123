"""A tree sink that writes into an ext4 partition: the :class:`~drypoint.fstree.TreeSink` of preloading."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from msgspec.structs import replace

from ..disk.device import Device
from ..disk.ext4.write.allocation import BlockAllocator, Shortage
from ..disk.ext4.write.content import ContentWriter, RunWriter
from ..disk.ext4.write.directory import (
    FT_BLOCK_DEVICE,
    FT_CHAR_DEVICE,
    FT_DIRECTORY,
    FT_FIFO,
    FT_REGULAR,
    FT_SOCKET,
    FT_SYMLINK,
    NAME_MAX,
)
from ..disk.ext4.write.filesystem import Ext4Filesystem
from ..disk.ext4.write.inode import (
    EXT4_EXTENTS_FL,
    EXT4_LINK_MAX,
    S_IFBLK,
    S_IFCHR,
    S_IFIFO,
    S_IFLNK,
    S_IFREG,
    S_IFSOCK,
    NewInode,
    device_block,
    links_of,
    replace_metadata,
    with_links,
)
from ..disk.ext4.write.mapping import ROOT_ENTRIES, Extent, Owner, map_blocks, overhead_bound
from ..disk.ext4.write.release import free_inode
from ..disk.ext4.write.xattr import clear_xattrs, set_xattrs
from ..errors import FilesystemError, NoSpaceError
from ..fstree import (
    BlockDevice,
    CharDevice,
    Content,
    Directory,
    Entry,
    Fifo,
    HardLink,
    Metadata,
    Regular,
    Socket,
    Symlink,
    join,
    parent_and_name,
)
from ..lanes import ENABLED
from .ext4_directories import OpenDirectories, OpenDirectory
from .ext4_meter import Meter

if ENABLED:
    from ._plain_lane import PlainFiles

_FAST_SYMLINK_MAX = 59
_LARGE_FILE = 1 << 31
# What any entry may take besides its own blocks: growth of its parent, its xattr block.
_MARGIN_BLOCKS = 32
_XATTR_PREFIXES = (b"user.", b"trusted.", b"security.")
_XATTR_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_XATTR_NAME_MAX = 255
_NUL = 0


class Ext4Sink:
    """Writes entries into the ext4 file system on *device*, below its directory *root*.

    Access times are the modification times, as the engine sets them; change and creation times are *now* (seconds since the
    epoch); the times of a directory that was there before do not change. Equal calls give equal bytes. The mode of a
    symbolic link is 0o777, not that of its metadata. Aligned ranges of 64 KiB of zeros become holes.

    When blocks or inodes run short, and *on_full* is given, the file system is written out, consistent, and closed, and
    *on_full* is called with the least shortage; it grows the file system, keeping inode numbers, and returns the device to
    continue with. Without it, NoSpaceError is raised.

    ``meter`` measures how much of the file system the entries take.

    After an error the file system is inconsistent: call :meth:`abort`. As a context manager the sink aborts on exit unless
    :meth:`finish` was called.
    """

    def __init__(
        self,
        device: Device,
        *,
        now: int,
        root: bytes = b"",
        on_full: Callable[[Shortage], Device] | None = None,
        lane: bool = ENABLED,
    ) -> None:
        """Open the file system.

        Args:
            lane: whether a compiled lane adds plain entries; it must be installed then (:data:`drypoint.lanes.ENABLED`).

        Raises:
            FilesystemError: it cannot be written to; see :class:`~drypoint.disk.ext4.Ext4Filesystem`.
            DiskImageError: the image file cannot be opened for writing.
            ToolError: libext2fs is missing.
        """
        self._root = root
        self._prefix = root + b"/" if root else b""
        self._on_full = on_full
        self._fs = Ext4Filesystem(device, now=now)
        self._allocator = BlockAllocator(self._fs)
        self._writer = RunWriter(self._fs)
        self._content = ContentWriter(self._fs, self._allocator, self._writer)
        self._directories = OpenDirectories(self._fs, self._allocator, self._writer, self._content)
        self.meter = Meter(self._fs, self._allocator, self._directories)
        self._near = self._fs.superblock.first_inode
        # The metadata checked last, most often that of the next entry too.
        self._checked: Metadata | None = None
        self._block_size = self._fs.block_size
        self._sectors_per_block = self._block_size // 512
        self._data_flags = EXT4_EXTENTS_FL if self._fs.has_extents else 0
        parts = self._fs, self._allocator, self._writer, self._directories, self.meter
        self._lane = PlainFiles(self, *parts, self._prefix) if lane else None

    # Existing entries

    def is_directory(self, path: bytes) -> bool | None:
        """Whether the entry at *path*, written out yet or not, is a directory; None if there is none.

        Raises:
            FilesystemError: its parent is not there, or is not a directory.
        """
        path = join(self._root, path)
        if not path:
            return True
        parent_path, name = parent_and_name(path)
        found = self._directories.find(parent_path).entries.get(name)
        return None if found is None else found[1] == FT_DIRECTORY

    # Facts for planning

    @property
    def block_size(self) -> int:
        """Bytes a block."""
        return self._fs.block_size

    @property
    def free_blocks(self) -> int:
        """Free blocks, less those that directories still in memory may need."""
        return self._allocator.free_blocks - self._directories.reserved_blocks

    @property
    def free_inodes(self) -> int:
        """Free inodes."""
        return self._fs.free_inodes

    # TreeSink

    def add(self, entry: Entry, content: Content | None = None) -> None:
        """See :meth:`drypoint.fstree.TreeSink.add`."""
        if self._lane is not None and self._lane.add(entry, content):
            return
        if not entry.path:
            raise FilesystemError("the root of the tree exists already")
        path = self._prefix + entry.path
        parent_path, _, name = path.rpartition(b"/")
        if len(name) > NAME_MAX:
            raise FilesystemError(f"{path!r}: a name has at most {NAME_MAX} bytes, this one has {len(name)}")
        if name in (b".", b"..") or _NUL in name:
            raise FilesystemError(f"{path!r}: no entry can be called {name!r}")
        parent = self._directories.find(parent_path)
        if name in parent.entries:
            raise FilesystemError(f"{path!r} exists already")
        if (content is not None) != isinstance(entry, Regular):
            raise FilesystemError(f"{path!r}: a regular file comes with content, and nothing else does")
        try:
            match entry:
                case Regular():
                    assert content is not None
                    ino = self._add_regular(path, entry, content)
                    self._directories.link(parent, name, ino, FT_REGULAR)
                case HardLink():
                    self._add_hard_link(parent, name, path, entry)
                case _:
                    self._add_other(parent, name, path, entry)
        except NoSpaceError as error:
            raise NoSpaceError(f"no room for {path!r}: {error}") from error

    def amend(self, path: bytes, metadata: Metadata) -> None:
        """See :meth:`drypoint.fstree.TreeSink.amend`."""
        path = join(self._root, path)
        self._check_metadata(path, metadata)
        directory = self._directories.opened(path)
        if directory is not None and directory.created is not None:
            directory.created = metadata
            return
        self._require(_MARGIN_BLOCKS, 0)
        ino, file_type = self._locate(path)
        mode = 0o777 if file_type == FT_SYMLINK else metadata.mode
        raw = self._fs.read_inode(ino)
        self._fs.write_inode(ino, replace_metadata(raw, mode, metadata.uid, metadata.gid, metadata.mtime, self._fs.now))
        clear_xattrs(self._fs, ino)
        self._allocator.freed()
        self._set_xattrs(ino, path, metadata)

    def remove(self, path: bytes) -> None:
        """See :meth:`drypoint.fstree.TreeSink.remove`."""
        if not path:
            raise FilesystemError("the root of the tree cannot be removed")
        path = join(self._root, path)
        ino, file_type = self._locate(path)
        # Data buffered for blocks that are about to be freed must not be written after they are reused.
        self._writer.flush()
        if file_type == FT_DIRECTORY:
            self._remove_directories(path)
        else:
            self._drop_name(ino, path)
        parent_path, name = parent_and_name(path)
        self._directories.unlink(self._directories.find(parent_path), name)
        self._allocator.freed()

    def settle(self, path: bytes) -> None:
        """See :meth:`drypoint.fstree.TreeSink.settle`."""
        self._directories.settle(join(self._root, path))

    def finish(self) -> None:
        """Write out everything pending and close the file system.

        Raises:
            NoSpaceError: there is no space for the last directories.
        """
        self._write_out()
        self._fs.close()

    def abort(self) -> None:
        """Close without writing what is pending. The file system is inconsistent unless :meth:`finish` came before."""
        self._fs.abort()

    def __enter__(self) -> Ext4Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    # Adding

    def _add_other(
        self,
        parent: OpenDirectory,
        name: bytes,
        path: bytes,
        entry: Directory | Symlink | CharDevice | BlockDevice | Fifo | Socket,
    ) -> None:
        self._check_metadata(path, entry.metadata)
        match entry:
            case Directory():
                self._add_directory(parent, name, path, entry.metadata)
            case Symlink():
                self._directories.link(parent, name, self._add_symlink(path, entry), FT_SYMLINK)
            case CharDevice():
                block = _device_block(path, entry.major, entry.minor)
                self._add_special(parent, name, path, entry.metadata, S_IFCHR, FT_CHAR_DEVICE, block)
            case BlockDevice():
                block = _device_block(path, entry.major, entry.minor)
                self._add_special(parent, name, path, entry.metadata, S_IFBLK, FT_BLOCK_DEVICE, block)
            case Fifo():
                self._add_special(parent, name, path, entry.metadata, S_IFIFO, FT_FIFO, b"")
            case Socket():
                self._add_special(parent, name, path, entry.metadata, S_IFSOCK, FT_SOCKET, b"")
            case _:
                assert_never(entry)

    def _add_regular(self, path: bytes, entry: Regular, content: Content) -> int:
        fs = self._fs
        size, metadata = entry.size, entry.metadata
        if metadata is not self._checked:
            self._check_metadata(path, metadata)
        blocks = -(-size // self._block_size)
        if size < 0 or blocks >= 1 << 32:
            raise FilesystemError(f"{path!r}: a file of {size} bytes is more than {fs} can hold")
        overhead = overhead_bound(fs, blocks, blocks) if blocks > ROOT_ENTRIES else 0
        self._require(blocks + overhead + _MARGIN_BLOCKS, 1)
        extents = self._content.store(path, size, content)
        ino = self._new_inode()
        mapping = map_blocks(fs, Owner(ino), extents, self._allocator.take)
        mapped = extents[0].length if len(extents) == 1 else sum(extent.length for extent in extents)
        sectors = (mapped + mapping.overhead) * self._sectors_per_block
        if size >= _LARGE_FILE:
            fs.note_large_file()
        self._write_inode(ino, path, metadata, S_IFREG, size, sectors, self._data_flags, mapping.block)
        return ino

    def _add_directory(self, parent: OpenDirectory, name: bytes, path: bytes, metadata: Metadata) -> None:
        if parent.subdirectories + 2 >= EXT4_LINK_MAX and not self._fs.superblock.dir_nlink:
            raise FilesystemError(
                f"{path!r}: its parent has {parent.subdirectories} directories already, the most there can be"
            )
        self._require(_MARGIN_BLOCKS, 1)
        self._near = ino = self._fs.inode_numbers.take(self._near, directory=True)
        self._directories.create(parent, name, path, ino, metadata)

    def _add_symlink(self, path: bytes, entry: Symlink) -> int:
        fs = self._fs
        target = entry.target
        if not target or b"\0" in target or len(target) >= fs.block_size:
            raise FilesystemError(
                f"{path!r}: a symbolic link's target has 1 to {fs.block_size - 1} bytes without NUL, this one has {len(target)}"
            )
        self._require(_MARGIN_BLOCKS, 1)
        block, sectors, flags = target, 0, 0
        ino = self._new_inode()
        if len(target) > _FAST_SYMLINK_MAX:
            extents: list[Extent] = []
            self._content.place(0, memoryview(target), extents, 1)
            block = map_blocks(fs, Owner(ino), extents, self._allocator.take).block
            sectors, flags = fs.block_size // 512, self._data_flags
        self._write_inode(ino, path, replace(entry.metadata, mode=0o777), S_IFLNK, len(target), sectors, flags, block)
        return ino

    def _add_special(
        self,
        parent: OpenDirectory,
        name: bytes,
        path: bytes,
        metadata: Metadata,
        kind: int,
        file_type: int,
        block: bytes,
    ) -> None:
        self._require(_MARGIN_BLOCKS, 1)
        ino = self._new_inode()
        self._write_inode(ino, path, metadata, kind, 0, 0, 0, block)
        self._directories.link(parent, name, ino, file_type)

    def _add_hard_link(self, parent: OpenDirectory, name: bytes, path: bytes, entry: HardLink) -> None:
        ino, file_type = self._locate(join(self._root, entry.target))
        if file_type == FT_DIRECTORY:
            raise FilesystemError(f"{path!r}: a directory cannot have a second name")
        self._require(_MARGIN_BLOCKS, 0)
        raw = self._fs.read_inode(ino)
        links = links_of(raw)
        if links >= EXT4_LINK_MAX:
            raise FilesystemError(f"{path!r}: {entry.target!r} has {links} names already, the most there can be")
        self._fs.write_inode(ino, with_links(raw, links + 1))
        self._directories.link(parent, name, ino, file_type)

    def _new_inode(self) -> int:
        self._near = ino = self._fs.inode_numbers.take(self._near, directory=False)
        return ino

    def _write_inode(
        self, ino: int, path: bytes, metadata: Metadata, kind: int, size: int, sectors: int, flags: int, block: bytes
    ) -> None:
        inode = NewInode(
            kind | metadata.mode, metadata.uid, metadata.gid, metadata.mtime, size, sectors, 1, flags, block
        )
        self._fs.write_new_inode(ino, inode)
        if metadata.xattrs:
            self._set_xattrs(ino, path, metadata)

    def _set_xattrs(self, ino: int, path: bytes, metadata: Metadata) -> None:
        if metadata.xattrs:
            self._allocator.leave_one()
            set_xattrs(self._fs, ino, metadata.xattrs, path=path)
            self._allocator.recount()

    # Finding and removing

    def _locate(self, path: bytes) -> tuple[int, int]:
        """Inode number and file type of the entry at *path* of the file system."""
        if not path:
            return self._directories.find(b"").ino, FT_DIRECTORY
        parent_path, name = parent_and_name(path)
        found = self._directories.find(parent_path).entries.get(name)
        if found is None:
            raise FilesystemError(f"{path!r}: no such file or directory")
        return found

    def _remove_directories(self, top: bytes) -> None:
        """Free the directory at *top* and all below it; their names stay until the caller removes them."""
        pending = [top]
        found: dict[int, OpenDirectory] = {}
        while pending:
            path = pending.pop()
            directory = self._directories.find(path)
            ino = directory.ino
            if ino in found or ino < self._fs.superblock.first_inode:
                raise FilesystemError(f"{path!r} (inode {ino}) cannot be removed: the tree is damaged; run e2fsck -f")
            found[ino] = directory
            for name, (child, file_type) in directory.entries.items():
                if file_type == FT_DIRECTORY:
                    pending.append(join(path, name))
                else:
                    self._drop_name(child, join(path, name))
        for ino, directory in found.items():
            if directory.created is not None:
                self._fs.inode_numbers.release(ino, directory=True)
            else:
                free_inode(self._fs, ino, self._fs.read_inode(ino), directory=True)
            self._directories.forget(directory)

    def _drop_name(self, ino: int, path: bytes) -> None:
        if ino < self._fs.superblock.first_inode:
            raise FilesystemError(f"{path!r} names the reserved inode {ino}; run e2fsck -f")
        raw = self._fs.read_inode(ino)
        links = links_of(raw)
        if links > 1:
            self._fs.write_inode(ino, with_links(raw, links - 1))
        else:
            free_inode(self._fs, ino, raw, directory=False)

    # Space

    def _require(self, blocks: int, inodes: int) -> None:
        """Ensure so many free blocks and inodes before any is taken: nothing is half done when the file system grows."""
        left = self._allocator.free_blocks - self._directories.reserved_blocks - blocks
        if left < self.meter.lowest:
            self.meter.lowest = left
        if (left < 0 or self._fs.inode_numbers.free < inodes) and self._on_full is not None:
            self._grow(blocks, inodes, self._on_full)

    def _grow(self, blocks: int, inodes: int, on_full: Callable[[Shortage], Device]) -> None:
        while True:
            missing_blocks = max(0, blocks - self.free_blocks)
            missing_inodes = max(0, inodes - self._fs.free_inodes)
            if not missing_blocks and not missing_inodes:
                return
            before = self._fs.free_blocks, self._fs.free_inodes
            self._write_out()
            written_out = self._fs.free_blocks, self._fs.free_inodes
            self._fs.close()
            self._fs.open(on_full(Shortage(missing_blocks, missing_inodes)))
            self._allocator.reset()
            self.meter.grew(self._fs.free_blocks - written_out[0], self._fs.free_inodes - written_out[1])
            if self._fs.free_blocks <= before[0] and self._fs.free_inodes <= before[1]:
                raise NoSpaceError(f"the file system in {self._fs} is full, and did not grow")

    def _check_metadata(self, path: bytes, metadata: Metadata) -> None:
        _check_metadata(path, metadata)
        self._checked = metadata

    def _write_out(self) -> None:
        self._directories.lay_out_all()
        self._writer.flush()
        self._allocator.release()


def _check_metadata(path: bytes, metadata: Metadata) -> None:
    if metadata.mode >> 12 or metadata.uid >> 32 or metadata.gid >> 32:
        raise FilesystemError(
            f"{path!r}: mode {metadata.mode:#o}, owner {metadata.uid}:{metadata.gid} are out of range (0o7777, 2**32 - 1)"
        )
    for name, value in metadata.xattrs:
        prefix = next((prefix for prefix in _XATTR_PREFIXES if name.startswith(prefix)), b"")
        known = (prefix and 0 < len(name) - len(prefix) <= _XATTR_NAME_MAX) or name in _XATTR_ACLS
        if not known or b"\0" in name:
            raise FilesystemError(f"{path!r}: ext4 has no extended attribute {name!r} ({len(value)} bytes)")


def _device_block(path: bytes, major: int, minor: int) -> bytes:
    try:
        return device_block(major, minor)
    except ValueError as error:
        raise FilesystemError(f"{path!r}: {error}") from error
