"""The open directories of an :class:`~drypoint.sinks.ext4.Ext4Sink`: in memory until they are laid out as blocks."""

from __future__ import annotations

import msgspec

from ..disk.ext4.write.allocation import BlockAllocator
from ..disk.ext4.write.content import ContentWriter, RunWriter
from ..disk.ext4.write.directory import (
    DOTS_SIZE,
    FT_DIRECTORY,
    FT_UNKNOWN,
    LONGEST_ENTRY,
    entry_size,
    leaf_room,
    linear_blocks,
    parse_block,
)
from ..disk.ext4.write.filesystem import Ext4Filesystem
from ..disk.ext4.write.htree import indexed_blocks
from ..disk.ext4.write.inode import (
    EXT2_INDEX_FL,
    EXT4_EXTENTS_FL,
    EXT4_LINK_MAX,
    S_IFDIR,
    S_IFMT,
    NewInode,
    flags_of,
    generation_of,
    mode_of,
    replace_content,
    sectors_of,
    with_links,
)
from ..disk.ext4.write.mapping import Extent, Owner, map_blocks
from ..disk.ext4.write.release import free_content
from ..disk.ext4.write.xattr import set_xattrs
from ..errors import FilesystemError
from ..fstree import Metadata, parent_and_name
from ..lanes.tables import Names, new_names

EXT2_ROOT_INO = 2


class OpenDirectory(msgspec.Struct):
    """A directory whose entries are in memory.

    ``entries`` maps a name to its inode number and file type; ``created`` is the metadata of a directory that has no inode on
    disk yet, None for all others; ``bound`` is how many blocks laying it out takes at most while ``size``, the bytes of its
    entries, is at most ``covered``; ``taken`` is how many it has taken since it was opened.
    """

    path: bytes
    ino: int
    parent: int
    created: Metadata | None
    entries: Names = msgspec.field(default_factory=new_names)
    children: dict[bytes, OpenDirectory] = msgspec.field(default_factory=dict)
    subdirectories: int = 0
    size: int = DOTS_SIZE
    bound: int = 0
    covered: int = 0
    taken: int = 0
    dirty: bool = False


class OpenDirectories:
    """The open directories, by path; those that are not open are loaded from disk."""

    def __init__(
        self, filesystem: Ext4Filesystem, allocator: BlockAllocator, writer: RunWriter, content: ContentWriter
    ) -> None:
        self._fs = filesystem
        self._allocator = allocator
        self._writer = writer
        self._content = content
        self._by_path: dict[bytes, OpenDirectory] = {}
        self._room = leaf_room(filesystem)
        self.reserved_blocks = 0
        """Blocks that laying out everything not on disk yet takes at most."""
        self.held_blocks = 0
        """Blocks that the open directories have taken since they were opened."""

    def find(self, path: bytes) -> OpenDirectory:
        """The directory at *path* of the file system.

        Raises:
            FilesystemError: nothing is there, or not a directory.
        """
        found = self._by_path.get(path)
        if found is not None:
            return found
        if not path:
            return self._load(b"", EXT2_ROOT_INO)
        parent_path, name = parent_and_name(path)
        parent = self.find(parent_path)
        entry = parent.entries.get(name)
        if entry is None:
            raise FilesystemError(f"{path!r}: no such directory")
        if entry[1] != FT_DIRECTORY:
            raise FilesystemError(f"{path!r} is not a directory")
        directory = self._load(path, entry[0])
        parent.children[name] = directory
        return directory

    def opened(self, path: bytes) -> OpenDirectory | None:
        """The directory at *path* if it is open."""
        return self._by_path.get(path)

    def create(self, parent: OpenDirectory, name: bytes, path: bytes, ino: int, metadata: Metadata) -> None:
        """Add a directory that has no inode on disk yet."""
        directory = OpenDirectory(path, ino, parent.ino, metadata)
        self._by_path[path] = parent.children[name] = directory
        directory.dirty = True
        self._cover(directory)
        self.link(parent, name, ino, FT_DIRECTORY)

    def link(self, directory: OpenDirectory, name: bytes, ino: int, file_type: int) -> None:
        """Add an entry."""
        directory.entries[name] = ino, file_type
        directory.size += entry_size(name)
        directory.dirty = True
        if file_type == FT_DIRECTORY:
            directory.subdirectories += 1
        if directory.size > directory.covered:
            self._cover(directory)

    def unlink(self, directory: OpenDirectory, name: bytes) -> None:
        """Remove an entry."""
        _, file_type = directory.entries.pop(name)
        directory.size -= entry_size(name)
        if file_type == FT_DIRECTORY:
            directory.subdirectories -= 1
            directory.children.pop(name, None)
        directory.dirty = True
        if directory.size > directory.covered:
            self._cover(directory)

    def settle(self, path: bytes) -> None:
        """Lay out the open directories at and below *path*, and close them."""
        top = self._by_path.get(path)
        if top is None:
            return
        for directory in _subtree(top):
            self.lay_out(directory)
            self.held_blocks -= directory.taken
            del self._by_path[directory.path]
        if path:
            parent_path, name = parent_and_name(path)
            parent = self._by_path.get(parent_path)
            if parent is not None:
                parent.children.pop(name, None)

    def forget(self, directory: OpenDirectory) -> None:
        """Drop a directory that is being removed."""
        self.reserved_blocks -= directory.bound
        self.held_blocks -= directory.taken
        self._by_path.pop(directory.path, None)

    def lay_out_all(self) -> None:
        """Lay out all open directories; they stay open."""
        root = self._by_path.get(b"")
        if root is not None:
            for directory in _subtree(root):
                self.lay_out(directory)

    def lay_out(self, directory: OpenDirectory) -> None:
        """Write the directory's blocks and its inode.

        Raises:
            NoSpaceError: no block is free.
        """
        if not directory.dirty:
            return
        fs = self._fs
        free_before = self._allocator.free_blocks
        raw: bytes | None = None
        if directory.created is None:
            # Data buffered for the old blocks must not be written after they are reused.
            self._writer.flush()
            raw = free_content(fs, directory.ino, fs.read_inode(directory.ino))
            self._allocator.freed()
        owner = Owner(directory.ino, 0 if raw is None else generation_of(raw))
        seed = fs.inode_checksum_seed(owner.ino, owner.generation)
        entries = [(name, ino, file_type) for name, (ino, file_type) in directory.entries.items()]
        flags = EXT4_EXTENTS_FL if fs.has_extents else 0
        if fs.superblock.hash_version is not None and directory.size > self._room:
            blocks = indexed_blocks(fs, seed, directory.ino, directory.parent, entries)
            flags |= EXT2_INDEX_FL
        else:
            blocks = linear_blocks(fs, seed, directory.ino, directory.parent, entries)
        extents: list[Extent] = []
        self._content.place(0, memoryview(b"".join(blocks)), extents, len(blocks))
        mapping = map_blocks(fs, owner, extents, self._allocator.take)
        size = len(blocks) * fs.block_size
        sectors = (len(blocks) + mapping.overhead) * (fs.block_size // 512)
        links = directory.subdirectories + 2
        if links > EXT4_LINK_MAX:
            links = 1
        if raw is None:
            assert directory.created is not None
            self._write_created(directory, directory.created, size, sectors, links, flags, mapping.block)
        else:
            flags |= flags_of(raw) & ~(EXT2_INDEX_FL | EXT4_EXTENTS_FL)
            raw = replace_content(raw, size, sectors_of(raw) + sectors, flags, mapping.block)
            fs.write_inode(directory.ino, with_links(raw, links))
        self.reserved_blocks -= directory.bound
        directory.bound, directory.covered, directory.dirty, directory.created = 0, 0, False, None
        taken = free_before - self._allocator.free_blocks
        directory.taken += taken
        self.held_blocks += taken

    def _write_created(
        self, directory: OpenDirectory, created: Metadata, size: int, sectors: int, links: int, flags: int, block: bytes
    ) -> None:
        inode = NewInode(
            mode=S_IFDIR | created.mode,
            uid=created.uid,
            gid=created.gid,
            mtime=created.mtime,
            size=size,
            sectors=sectors,
            links=links,
            flags=flags,
            block=block,
        )
        self._fs.write_new_inode(directory.ino, inode)
        if created.xattrs:
            self._allocator.leave_one()
            set_xattrs(self._fs, directory.ino, created.xattrs, path=directory.path)
            self._allocator.recount()

    def _load(self, path: bytes, ino: int) -> OpenDirectory:
        raw = self._fs.read_inode(ino)
        if mode_of(raw) & S_IFMT != S_IFDIR:
            raise FilesystemError(f"{path!r} is called a directory, but its inode {ino} is none; run e2fsck -f")
        # Blocks of directories may still be in the writer's buffer.
        self._writer.flush()
        directory = OpenDirectory(path, ino, ino, None)
        where = f"directory {path!r} (inode {ino})"
        for block in self._fs.directory_blocks(ino, raw):
            for name, child, file_type in parse_block(block, where):
                if name == b"..":
                    directory.parent = child
                elif name != b".":
                    kind = file_type if file_type != FT_UNKNOWN else self._kind_of(child)
                    directory.entries[name] = child, kind
                    directory.size += entry_size(name)
                    directory.subdirectories += kind == FT_DIRECTORY
        self._by_path[path] = directory
        return directory

    def _kind_of(self, ino: int) -> int:
        """The file type for an entry that has none: only whether it is a directory matters here."""
        return FT_DIRECTORY if mode_of(self._fs.read_inode(ino)) & S_IFMT == S_IFDIR else FT_UNKNOWN

    def _cover(self, directory: OpenDirectory) -> None:
        """Reserve as many blocks as laying out a directory that has grown takes at most."""
        if directory.size <= self._room:
            directory.covered, bound = self._room, 1
        else:
            # Every leaf may lose as much as the longest entry, then come inner nodes and blocks of the extent tree.
            directory.covered = directory.size + directory.size // 4 + self._room
            leaves = directory.covered // (self._room - LONGEST_ENTRY) + 1
            bound = leaves + leaves // 32 + 8
        bound += bool(directory.created and directory.created.xattrs)
        self.reserved_blocks += bound - directory.bound
        directory.bound = bound


def _subtree(top: OpenDirectory) -> list[OpenDirectory]:
    """*top* and the open directories below it, each after those it holds."""
    found: list[OpenDirectory] = []
    stack = [top]
    while stack:
        directory = stack.pop()
        found.append(directory)
        stack.extend(directory.children.values())
    found.reverse()
    return found
