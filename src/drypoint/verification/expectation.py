"""The tree that a layer's tar unpacks to, without contents, to compare the disk with."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from ..errors import LayerError
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
)

ANY_TIME = -(1 << 70)
"""An mtime that no inode can have: it stands for the time of unpacking, which is unknown afterwards."""

Inode: TypeAlias = Directory | Regular | Symlink | CharDevice | BlockDevice | Fifo | Socket


class ExpectedInode(msgspec.Struct):
    """One expected inode, with *names* paths."""

    entry: Inode
    names: int = 1


class Expectation:
    """A TreeSink that only records: ``inodes`` by path, the layer's root as ``b""``; ``replaced`` are paths at which an
    earlier entry was."""

    def __init__(self) -> None:
        root = Directory(b"", Metadata(0o755, mtime=ANY_TIME))
        self.inodes: dict[bytes, ExpectedInode] = {b"": ExpectedInode(root)}
        self.replaced: set[bytes] = set()

    def add(self, entry: Entry, content: Content | None = None) -> None:
        if isinstance(entry, HardLink):
            inode = self._at(entry.target)
            inode.names += 1
            self.inodes[entry.path] = inode
        else:
            self.inodes[entry.path] = ExpectedInode(entry)

    def amend(self, path: bytes, metadata: Metadata) -> None:
        inode = self._at(path)
        inode.entry = replace(inode.entry, metadata=metadata)

    def remove(self, path: bytes) -> None:
        inode = self._at(path)
        doomed = [path]
        if isinstance(inode.entry, Directory):
            doomed += [other for other in self.inodes if other.startswith(path + b"/")]
        for one in doomed:
            self.inodes.pop(one).names -= 1
        self.replaced.update(doomed)

    def settle(self, path: bytes) -> None:
        """Nothing is written out, so nothing can be forgotten."""

    def finish(self) -> None:
        """Nothing is pending."""

    def _at(self, path: bytes) -> ExpectedInode:
        inode = self.inodes.get(path)
        if inode is None:
            raise LayerError(f"the layer changes {path[:300]!r}, which it does not hold")
        return inode
