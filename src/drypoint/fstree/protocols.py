"""The protocols for writing and reading a tree. They have the minimum; everything else is built on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from .entry import Content, Directory, Entry, Metadata


class TreeSink(Protocol):
    """Writes entries to a tree, which may hold others.

    The caller keeps the order: a directory before its entries, a hard link after its target. The root exists.
    """

    def add(self, entry: Entry, content: Content | None = None) -> None:
        """Create *entry*; *content* is only for :class:`Regular`.

        The parent directory must exist, and nothing may exist at the path.

        Raises:
            FilesystemError: the parent is missing, the path exists, *content* is not exactly ``entry.size`` bytes long, or the
                file system cannot hold such an entry.
            NoSpaceError: there is no free block or inode, even after growth if the sink can grow.
        """

    def amend(self, path: bytes, metadata: Metadata) -> None:
        """Give the existing inode at *path* exactly this metadata, xattrs included."""

    def remove(self, path: bytes) -> None:
        """Remove *path*, with everything below it. An inode is removed with its last name."""

    def settle(self, path: bytes) -> None:
        """Declare that nothing more is added at or below the directory *path*: the sink may write it out and forget it."""

    def finish(self) -> None:
        """Write out what is pending. Called once, last, and only on success."""


class Stat(msgspec.Struct, frozen=True):
    """The entry at a path (never a :class:`HardLink`), its inode number, and its number of names."""

    entry: Entry
    inode: int
    links: int


class TreeReader(Protocol):
    """Reads a tree. Symbolic links are never followed."""

    def lookup(self, path: bytes) -> Stat | None:
        """The entry at the clean *path*, or None. Below a part that is not a directory, nothing exists."""

    def children(self, directory: Directory) -> Iterator[Stat]:
        """The entries of *directory*, without ``.`` and ``..``, in any order."""

    def read(self, stat: Stat) -> Iterator[memoryview]:
        """The content of the regular file *stat*, in chunks that are valid until the next one is read."""
