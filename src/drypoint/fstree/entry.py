"""The entries of a file system as values: files, directories, links, devices.

Paths are bytes, relative to the tree's root, without leading, trailing or doubled slashes and without ``.`` or ``..``
parts; the root itself is ``b""`` (see :mod:`drypoint.fstree.path`). Modes are the permission bits only (``0o7777``): the
file type is the entry's class. Times are nanoseconds since the epoch, as ``int``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

Content: TypeAlias = Iterable[bytes | memoryview]
"""A regular file's bytes, in order. A chunk is only valid until the next one is read: copy it to keep it."""


# gc=False: there are many, and none is part of a reference cycle.
class Metadata(msgspec.Struct, frozen=True, gc=False):
    """The metadata of an inode.

    Attributes:
        mode: permission bits with setuid, setgid and sticky, 0 to 0o7777.
        uid: numeric owner, 0 to 2**32 - 1.
        gid: numeric group, 0 to 2**32 - 1.
        mtime: modification time in nanoseconds since the epoch, possibly negative.
        xattrs: pairs of full name (``b"security.capability"``) and value, sorted by name, each name once.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Directory(msgspec.Struct, frozen=True, gc=False):
    path: bytes
    metadata: Metadata


class Regular(msgspec.Struct, frozen=True, gc=False):
    """A regular file; ``size`` is its length in bytes. Its content is passed separately."""

    path: bytes
    metadata: Metadata
    size: int


class Symlink(msgspec.Struct, frozen=True, gc=False):
    path: bytes
    metadata: Metadata
    target: bytes


class HardLink(msgspec.Struct, frozen=True, gc=False):
    """Another name of the inode at ``target``, a path in the same tree. The metadata is the inode's."""

    path: bytes
    target: bytes


class CharDevice(msgspec.Struct, frozen=True, gc=False):
    path: bytes
    metadata: Metadata
    major: int
    minor: int


class BlockDevice(msgspec.Struct, frozen=True, gc=False):
    path: bytes
    metadata: Metadata
    major: int
    minor: int


class Fifo(msgspec.Struct, frozen=True, gc=False):
    path: bytes
    metadata: Metadata


class Socket(msgspec.Struct, frozen=True, gc=False):
    path: bytes
    metadata: Metadata


Entry: TypeAlias = Directory | Regular | Symlink | HardLink | CharDevice | BlockDevice | Fifo | Socket
