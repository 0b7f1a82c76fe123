"""The inodes that a layer has made so far, with just enough of each to apply the next entry; small, since there are many."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from ...fstree import Metadata
from .xattr_rules import Kind

_PLAIN = struct.Struct("<HIIqQ")


class Dir(msgspec.Struct, eq=False):
    """A directory.

    Attributes:
        position: number of the tar entry that last named it; 0 if only entries below it did.
    """

    metadata: Metadata
    position: int
    children: dict[bytes, Node]


class Inode(msgspec.Struct, eq=False, gc=False):
    """An inode of another kind than directory, except :data:`Plain` ones.

    Attributes:
        size: st_size, in bytes.
        target: that of a symbolic link; empty for every other kind.
        names: how many names it has.
    """

    metadata: Metadata
    size: int
    kind: Kind
    target: bytes = b""
    names: int = 1


Plain: TypeAlias = bytes
"""A regular file with one name and no xattrs, packed; three in four inodes of a layer are such."""

Node: TypeAlias = Dir | Inode | Plain


def regular(metadata: Metadata, size: int) -> Inode | Plain:
    """A new regular file, in its smallest form."""
    if metadata.xattrs:
        return Inode(metadata, size, "regular")
    return _PLAIN.pack(metadata.mode, metadata.uid, metadata.gid, metadata.mtime, size)


def unpack(plain: Plain) -> Inode:
    mode, uid, gid, mtime, size = _PLAIN.unpack(plain)
    return Inode(Metadata(mode, uid, gid, mtime), size, "regular")


def inode_at(parent: Dir, name: bytes) -> Inode | None:
    """The inode at *name* in *parent*, in a form that can be changed; None if there is none, or a directory."""
    node = parent.children.get(name)
    if isinstance(node, Plain):
        node = parent.children[name] = unpack(node)
    return node if isinstance(node, Inode) else None


def forget(node: Node) -> int:
    """Remove one name of *node*, and all below it; returns how many bytes of content that removes."""
    freed = 0
    pending: list[Node] = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, Plain):
            freed += int(_PLAIN.unpack(one)[4])
        elif isinstance(one, Inode):
            one.names -= 1
            freed += one.size if not one.names else 0
        else:
            pending.extend(one.children.values())
    return freed


def named_directories(node: Node, path: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Position, path and mtime of every directory at and below *node* that a tar entry has named."""
    pending: list[tuple[bytes, Node]] = [(path, node)]
    while pending:
        where, one = pending.pop()
        if isinstance(one, Dir):
            if one.position:
                yield one.position, where, one.metadata.mtime
            pending.extend((where + b"/" + name, child) for name, child in one.children.items())
