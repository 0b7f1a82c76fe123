"""Following symbolic links inside a tree, as the kernel does below a root directory (path_resolution(7))."""

from __future__ import annotations

import msgspec

from .entry import Symlink
from .path import join
from .protocols import TreeReader

_MAX_LINKS = 40
"""Linux's limit for one path."""


class FollowedPath(msgspec.Struct, frozen=True):
    """The result of following a path.

    Attributes:
        path: the path without symbolic links, relative to the tree's root; it need not exist. None for a loop.
        link: the first symbolic link on the way, or None.
        leaves: whether a link is absolute or leads above the tree's root, so that its target depends on where the tree is
            mounted. *path* is then valid for a tree that is mounted at ``/``.
    """

    path: bytes | None
    link: Symlink | None = None
    leaves: bool = False


def follow_links(reader: TreeReader, path: bytes, root: bytes = b"") -> FollowedPath:
    """Follow the clean *path*, relative to the directory *root* of the tree, which is ``/`` for its links."""
    pending = path.split(b"/")[::-1]
    done: list[bytes] = []
    first: Symlink | None = None
    leaves = False
    links = 0
    while pending:
        part = pending.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            leaves = leaves or not done
            done = done[:-1]
            continue
        stat = reader.lookup(join(root, *done, part))
        if stat is None or not isinstance(stat.entry, Symlink):
            done.append(part)
            continue
        first = first or stat.entry
        links += 1
        if links > _MAX_LINKS:
            return FollowedPath(None, first, leaves)
        if stat.entry.target.startswith(b"/"):
            leaves = True
            done = []
        pending.extend(stat.entry.target.split(b"/")[::-1])
    return FollowedPath(join(root, *done), first, leaves)
