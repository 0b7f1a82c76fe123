"""Who takes a tree and who gives one. Implementers give the minimum; everything else is built on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from .entry import Content, Directory, Entry, Metadata


class TreeSink(Protocol):
    """Takes entries into a tree that may already hold others.

    The caller keeps the order sane: a directory before what it holds, a hard link after its target. The root exists.
    """

    def add(self, entry: Entry, content: Content | None = None) -> None:
        """Create *entry*; *content* goes with :class:`Regular` and with nothing else.

        The parent directory exists and nothing exists at the path yet.

        Raises:
            FilesystemError: the parent is missing, the path is taken, *content* is not exactly ``entry.size`` bytes long, or
                the file system cannot hold such an entry.
            NoSpaceError: no free block or inode, after whatever growth the sink can do.
        """

    def amend(self, path: bytes, metadata: Metadata) -> None:
        """Give the existing inode at *path* exactly this metadata, xattrs included."""

    def remove(self, path: bytes) -> None:
        """Remove what is at *path*, with everything below it. An inode goes with its last name."""

    def settle(self, path: bytes) -> None:
        """Nothing more will be added at or below the directory *path*: the sink may write it out and forget it."""

    def finish(self) -> None:
        """Write out what is still pending. Called once, last, and only when everything went well."""


class Stat(msgspec.Struct, frozen=True):
    """What is found at a path: the entry (never a :class:`HardLink`), its inode's number, and how many names it has."""

    entry: Entry
    inode: int
    links: int


class TreeReader(Protocol):
    """Gives a tree. Symbolic links are never followed."""

    def lookup(self, path: bytes) -> Stat | None:
        """What is at the clean *path*, or None. A part of the path that is not a directory counts as absent."""

    def children(self, directory: Directory) -> Iterator[Stat]:
        """What lies directly in *directory*, without ``.`` and ``..``, in any order."""

    def read(self, stat: Stat) -> Iterator[memoryview]:
        """The content of the regular file *stat*, in chunks that are valid until the next one is asked for."""
