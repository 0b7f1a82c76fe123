"""A tree in memory, both sink and reader, for the tests: it enforces every rule of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from ..errors import FilesystemError
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
    Stat,
    Symlink,
    clean_path,
    parent_and_name,
)

_MAX_NAME_BYTES = 255
_MAX_TARGET_BYTES = 4095
_CHUNK = 1 << 20
_Inode: TypeAlias = Directory | Regular | Symlink | CharDevice | BlockDevice | Fifo | Socket


class _Node(msgspec.Struct):
    """An inode: its entry under the name it was created with, its content, its other names."""

    number: int
    entry: _Inode
    content: bytes
    names: int
    children: dict[bytes, _Node]


class MemoryTree:
    """A :class:`~drypoint.fstree.TreeSink` and :class:`~drypoint.fstree.TreeReader` at once.

    It refuses everything that a file system on disk would refuse, and what the protocol forbids: adding below a settled
    directory, and any call after :meth:`finish`. Inodes are numbered from 1, the root, in the order of creation.

    Args:
        root: the metadata of the root directory.
    """

    def __init__(self, root: Metadata | None = None) -> None:
        self._root = _Node(1, Directory(b"", root or Metadata(0o755)), b"", 1, {})
        self._made = 1
        self._settled: set[bytes] = set()
        self._finished = False

    @property
    def finished(self) -> bool:
        return self._finished

    def add(self, entry: Entry, content: Content | None = None) -> None:
        parent, name = self._free_place(entry.path)
        if isinstance(entry, HardLink):
            if content is not None:
                raise FilesystemError(f"{_shown(entry.path)}: a hard link has no content of its own")
            target = self._existing(entry.target)
            if isinstance(target.entry, Directory):
                raise FilesystemError(f"{_shown(entry.path)}: a hard link to the directory {_shown(entry.target)}")
            target.names += 1
            parent.children[name] = target
            return
        _check_metadata(entry.path, entry.metadata)
        if isinstance(entry, Symlink) and not 0 < len(entry.target) <= _MAX_TARGET_BYTES:
            raise FilesystemError(f"{_shown(entry.path)}: a symbolic link of {len(entry.target)} bytes")
        if content is not None and not isinstance(entry, Regular):
            raise FilesystemError(f"{_shown(entry.path)}: content for what is not a regular file")
        data = b"".join(bytes(chunk) for chunk in content or ())
        if isinstance(entry, Regular) and len(data) != entry.size:
            raise FilesystemError(f"{_shown(entry.path)}: expected {entry.size} bytes of content, got {len(data)}")
        self._made += 1
        parent.children[name] = _Node(self._made, entry, data, 1, {})

    def amend(self, path: bytes, metadata: Metadata) -> None:
        self._check_open()
        _check_metadata(path, metadata)
        node = self._existing(path)
        node.entry = replace(node.entry, metadata=metadata)

    def remove(self, path: bytes) -> None:
        self._check_open()
        self._existing(path)
        parent_path, name = _split(path)
        waiting = [self._existing(parent_path).children.pop(name)]
        while waiting:
            node = waiting.pop()
            node.names -= 1
            waiting += node.children.values()
        self._settled = {
            settled for settled in self._settled if settled != path and not settled.startswith(path + b"/")
        }

    def settle(self, path: bytes) -> None:
        self._check_open()
        if not isinstance(self._existing(path).entry, Directory):
            raise FilesystemError(f"{_shown(path)} is not a directory, so it cannot be settled")
        self._settled.add(path)

    def finish(self) -> None:
        self._check_open()
        self._finished = True

    def lookup(self, path: bytes) -> Stat | None:
        node = self._find(path)
        return None if node is None else _stat(path, node)

    def children(self, directory: Directory) -> Iterator[Stat]:
        prefix = directory.path + b"/" if directory.path else b""
        for name, node in list(self._existing(directory.path).children.items()):
            yield _stat(prefix + name, node)

    def read(self, stat: Stat) -> Iterator[memoryview]:
        content = memoryview(self.content(stat.entry.path))
        for start in range(0, len(content), _CHUNK):
            yield content[start : start + _CHUNK]

    def content(self, path: bytes) -> bytes:
        """The whole content of the regular file at *path*."""
        node = self._existing(path)
        if not isinstance(node.entry, Regular):
            raise FilesystemError(f"{_shown(path)} is not a regular file")
        return node.content

    def walk(self) -> Iterator[Stat]:
        """All entries except the root, sorted by path; names of one inode share :attr:`Stat.inode`."""
        found = []
        waiting = [self._stat_of_root()]
        while waiting:
            stat = waiting.pop()
            if isinstance(stat.entry, Directory):
                below = list(self.children(stat.entry))
                found += below
                waiting += below
        yield from sorted(found, key=lambda stat: stat.entry.path)

    def _stat_of_root(self) -> Stat:
        return _stat(b"", self._root)

    def _find(self, path: bytes) -> _Node | None:
        node: _Node | None = self._root
        for part in path.split(b"/") if path else ():
            if node is None:
                break
            node = node.children.get(part)
        return node

    def _existing(self, path: bytes) -> _Node:
        node = self._find(path)
        if node is None:
            raise FilesystemError(f"{_shown(path)} does not exist")
        return node

    def _free_place(self, path: bytes) -> tuple[_Node, bytes]:
        """The directory that the new *path* goes into, and its name there."""
        self._check_open()
        _check_path(path)
        parent_path, name = _split(path)
        parent = self._find(parent_path)
        if parent is None:
            raise FilesystemError(f"{_shown(path)}: its directory does not exist")
        if not isinstance(parent.entry, Directory):
            raise FilesystemError(f"{_shown(path)}: {_shown(parent_path)} is not a directory")
        if name in parent.children:
            raise FilesystemError(f"{_shown(path)} exists already")
        above = b""
        for part in (b"", *path.split(b"/")[:-1]):
            above = above + b"/" + part if above else part
            if above in self._settled:
                raise FilesystemError(f"{_shown(path)}: {_shown(above)} was settled before")
        return parent, name

    def _check_open(self) -> None:
        if self._finished:
            raise FilesystemError("the tree is finished and takes nothing more")


def _stat(path: bytes, node: _Node) -> Stat:
    """Links of a directory are counted as ext4 counts them: its name, its ``.``, and a ``..`` for each directory in it."""
    links = node.names
    if isinstance(node.entry, Directory):
        links = 2 + sum(isinstance(child.entry, Directory) for child in node.children.values())
    return Stat(replace(node.entry, path=path), node.number, links)


def _split(path: bytes) -> tuple[bytes, bytes]:
    if not path:
        raise FilesystemError("the root of the tree can neither be made nor removed")
    return parent_and_name(path)


def _check_path(path: bytes) -> None:
    try:
        clean = clean_path(path)
    except ValueError as error:
        raise FilesystemError(f"{_shown(path)} is not a path: {error}") from error
    if clean != path:
        raise FilesystemError(f"{_shown(path)} is not clean, expected {_shown(clean)}")
    longest = max(len(part) for part in path.split(b"/"))
    if longest > _MAX_NAME_BYTES:
        raise FilesystemError(f"{_shown(path)} has a name of {longest} bytes, more than {_MAX_NAME_BYTES}")


def _check_metadata(path: bytes, metadata: Metadata) -> None:
    if not (0 <= metadata.mode <= 0o7777 and 0 <= metadata.uid < 1 << 32 and 0 <= metadata.gid < 1 << 32):
        raise FilesystemError(
            f"{_shown(path)} has mode {metadata.mode:o}, owner {metadata.uid}:{metadata.gid}: out of range"
        )
    names = [name for name, _ in metadata.xattrs]
    if names != sorted(set(names)):
        raise FilesystemError(f"{_shown(path)}: its extended attributes are not sorted, or one is there twice")


def _shown(path: bytes) -> str:
    return "/" + path.decode("utf-8", "backslashreplace")
