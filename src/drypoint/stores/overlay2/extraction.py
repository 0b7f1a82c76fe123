"""Applying a layer's changes to a tree below ``diff/``, as the engine's graph driver overlay2 unpacks it.

Source: moby v20.10.24, pkg/archive/archive.go (Unpack, createTarFile), pkg/archive/archive_linux.go; observations of
dockerd with layers built for the purpose. The engine unpacks inside a chroot, so that every path, symbolic links in it
included, stays in the layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Never, assert_never

from msgspec.structs import replace

from ...errors import LayerError
from ...fstree import (
    BlockDevice,
    CharDevice,
    Content,
    Directory,
    Fifo,
    HardLink,
    Metadata,
    Regular,
    Symlink,
    TreeSink,
    join,
    parent_and_name,
)
from ...layers.change import Add, Change, Link, Opaque, Whiteout
from ...limits import DEFAULT_LIMITS, Limits, raise_hint
from ..planned import AppliedLayer
from . import xattr_rules as xattrs
from .inode_index import Dir, Inode, Node, Plain, forget, inode_at, named_directories, regular, unpack
from .xattr_rules import Kind, Xattrs

MAX_PATH_BYTES = 4000
"""Longest path in a layer: Linux takes 4,095 bytes, of which ``/var/lib/docker/overlay2/<cache-id>/diff/`` takes 95."""
MAX_NAME_BYTES = 255
MAX_SYMLINKS = 40
"""Most symbolic links followed in one path, as in Linux."""
_MAX_LINK_PARTS = 20_000_000
MOST_DIRECT, LONGEST_DIRECT = 1024, 512
"""How many directories are cached by their whole path, and how long that may be, in bytes."""
_IMPLIED_MODE = 0o755
_SETGID = 0o2000
_KINDS: dict[type, Kind] = {Regular: "regular", Directory: "directory", Symlink: "symlink"}


def apply_changes(
    changes: Iterable[tuple[Change, Content | None]],
    sink: TreeSink,
    diff_root: bytes,
    timestamp: int,
    what: str = "layer",
    limits: Limits = DEFAULT_LIMITS,
) -> AppliedLayer:
    """Apply a layer's changes, in order, to the empty directory *diff_root* of *sink*.

    Args:
        timestamp: mtime, in nanoseconds since the epoch, of what the engine would give the time of unpacking: whiteouts, and
            directories that no entry names.
        what: how errors name the layer.
        limits: how many entries it may have, and how long its paths may be together.

    Raises:
        LayerError: an entry that the engine refuses, or more than *limits* allow.
    """
    tree = _Tree(sink, diff_root, timestamp, what, limits)
    for change, content in changes:
        tree.apply(change, content)
    tree.finish()
    return AppliedLayer(tree.size, tree.entries, tree.inodes)


class _Tree:
    def __init__(self, sink: TreeSink, diff_root: bytes, timestamp: int, what: str, limits: Limits) -> None:
        self.size = 0
        self.entries = 0
        self.inodes = 0
        self._sink = sink
        self._diff_root = diff_root
        self._prefix = diff_root + b"/" if diff_root else b""
        self._timestamp = timestamp
        self._what = what
        self._limits = limits
        self._implied = 0
        self._metadata_bytes = 0
        self._current = b""
        self._root = Dir(Metadata(0o755, mtime=timestamp), 0, {})
        self._link_parts = 0
        self._late: list[tuple[int, bytes, int]] = []
        # Entries come directory by directory, so that the last one found is most often the next one needed.
        self._last: tuple[bytes, Dir, bytes] = (b"", self._root, b"")
        # Directories whose paths lead through no symbolic link, by path. Bounded, since paths can be long and many.
        self._direct: dict[bytes, Dir] = {}

    def apply(self, change: Change, content: Content | None) -> None:
        self.entries += 1
        if self.entries + self._implied > self._limits.entries:
            self._refuse_more()
        if isinstance(change, Add):
            self._current = change.entry.path
            self._add(change, content)
        elif isinstance(change, Link):
            self._current = change.path
            self._link(change)
        elif isinstance(change, Whiteout):
            self._current = change.path
            self._whiteout(change)
        elif isinstance(change, Opaque):
            self._current = change.path
            self._opaque(change)
        else:
            assert_never(change)

    def finish(self) -> None:
        """Set the times of replaced directories: the engine sets all at the end, on what is at each path by then."""
        for position, path, mtime in sorted(self._late):
            self._current = path
            _, node, real = self._resolve(path)
            if isinstance(node, Dir) and node.position > position:
                continue
            if isinstance(node, Dir):
                node.metadata = metadata = replace(node.metadata, mtime=mtime)
            else:
                metadata = replace((unpack(node) if isinstance(node, Plain) else node).metadata, mtime=mtime)
            self._sink.amend(join(self._diff_root, real), metadata)

    def _add(self, change: Add, content: Content | None) -> None:
        entry = change.entry
        if not entry.path:
            if not isinstance(entry, Directory):
                self._refuse("the layer's root is not a directory")
            self._merge(self._root, b"", entry.metadata)
            return
        parent, name, real = self._place(entry.path)
        existing = parent.children.get(name)
        if existing is not None:
            if isinstance(existing, Dir) and isinstance(entry, Directory):
                self._merge(existing, real, entry.metadata)
                return
            self._make_way(entry.path, parent, name, real)
        path = self._prefix + real
        metadata = entry.metadata
        if metadata.xattrs or parent.metadata.xattrs:
            metadata = self._made(metadata, _KINDS.get(type(entry), "special"), parent)
            self._metadata_bytes += sum(len(name) + len(value) for name, value in metadata.xattrs)
        self.inodes += 1
        match entry:
            case Regular():
                self._sink.add(Regular(path, metadata, entry.size), content)
                parent.children[name] = regular(metadata, entry.size)
                self.size += entry.size
            case Directory():
                self._metadata_bytes += len(real)
                self._sink.add(Directory(path, metadata))
                parent.children[name] = Dir(metadata, self.entries, {})
            case Symlink():
                self._sink.add(Symlink(path, metadata, entry.target))
                parent.children[name] = Inode(metadata, len(entry.target), "symlink", entry.target)
                self.size += len(entry.target)
                self._metadata_bytes += len(entry.target)
            case CharDevice() | BlockDevice() | Fifo():
                self._sink.add(replace(entry, path=path, metadata=metadata))
                parent.children[name] = Inode(metadata, 0, "special")
            case _:
                assert_never(entry)

    def _link(self, change: Link) -> None:
        parent, name, real = self._place(change.path)
        if name in parent.children:
            self._make_way(change.path, parent, name, real)
        if not change.target:
            self._refuse("a hard link to the layer's root, which is a directory")
        above, target_name = parent_and_name(change.target)
        holder, holder_path = self._directory(above, imply=False)
        inode = inode_at(holder, target_name)
        if inode is None:
            is_directory = target_name in holder.children
            self._refuse(
                f"a hard link to {change.target!r}, which is {'a directory' if is_directory else 'not in the layer'}"
            )
        path = join(self._diff_root, real)
        self._sink.add(HardLink(path, join(self._diff_root, holder_path, target_name)))
        inode.names += 1
        parent.children[name] = inode
        metadata = self._linked(inode, change.metadata)
        if metadata != inode.metadata:
            inode.metadata = metadata
            self._sink.amend(path, metadata)

    def _linked(self, inode: Inode, header: Metadata) -> Metadata:
        """Apply the link's own header to the inode, as the engine does; to a symbolic link only owner and xattrs."""
        kept = self._changed(inode.metadata, header, inode.kind)
        if inode.kind == "symlink":
            return replace(inode.metadata, uid=header.uid, gid=header.gid, xattrs=kept)
        return replace(header, xattrs=kept)

    def _whiteout(self, change: Whiteout) -> None:
        if not change.path:
            self._refuse("a whiteout without a name")
        parent, name, real = self._place(change.path)
        self._remove_marker(change.path, parent, b".wh." + name, real[: len(real) - len(name)] + b".wh." + name)
        if name in parent.children:
            self._refuse("a whiteout of what the same layer holds already")
        header = Metadata(0, change.metadata.uid, change.metadata.gid, self._timestamp)
        metadata = self._made(header, "special", parent)
        self._sink.add(CharDevice(join(self._diff_root, real), metadata, 0, 0))
        parent.children[name] = Inode(metadata, 0, "special")
        self.inodes += 1

    def _opaque(self, change: Opaque) -> None:
        holder, node, real = self._resolve(change.path, imply=True)
        if isinstance(node, Dir):
            self._remove_marker(join(change.path, b".wh..wh..opq"), node, b".wh..wh..opq", join(real, b".wh..wh..opq"))
            target: Dir | Inode = node
        else:
            # The engine sets the attribute on what is there, even on a file, where it has no meaning.
            inode = inode_at(holder, real.rpartition(b"/")[2])
            target = inode if inode is not None else self._refuse("an opaque marker in nothing")
        target.metadata = replace(target.metadata, xattrs=xattrs.marked_opaque(target.metadata.xattrs))
        self._sink.amend(join(self._diff_root, real), target.metadata)

    def _remove_marker(self, path: bytes, parent: Dir, name: bytes, real: bytes) -> None:
        """A whiteout's own name may exist, as the whiteout of a whiteout: the engine removes it like any file."""
        if name in parent.children:
            self._make_way(path, parent, name, real)

    def _make_way(self, path: bytes, parent: Dir, name: bytes, real: bytes) -> None:
        """Remove what is at *path*; fails if *path* leads through it, by symbolic links, and so no longer exists."""
        self._remove(parent, name, real)
        self._directory(path.rpartition(b"/")[0], imply=False)

    def _merge(self, directory: Dir, real: bytes, header: Metadata) -> None:
        directory.metadata = replace(header, xattrs=self._changed(directory.metadata, header, "directory"))
        directory.position = self.entries
        self._sink.amend(join(self._diff_root, real), directory.metadata)

    def _made(self, header: Metadata, kind: Kind, parent: Dir) -> Metadata:
        """A new inode's metadata: from the header and from the directory; most often from the header alone."""
        try:
            return replace(header, xattrs=xattrs.made(header.xattrs, kind, header.mode, parent.metadata.xattrs))
        except ValueError as error:
            self._refuse(str(error))

    def _changed(self, old: Metadata, header: Metadata, kind: Kind) -> Xattrs:
        try:
            return xattrs.changed(old.xattrs, header.xattrs, kind, header.mode)
        except ValueError as error:
            self._refuse(str(error))

    def _place(self, path: bytes) -> tuple[Dir, bytes, bytes]:
        """The parent of *path*, created if missing; the name in it; and the path without symbolic links."""
        if not path:
            self._refuse("an entry for the layer's root that is not a directory")
        above, _, name = path.rpartition(b"/")
        last, parent, where = self._last
        if above != last:
            parent, where = self._directory(above, imply=True)
        real = where + b"/" + name if where else name
        if len(name) > MAX_NAME_BYTES or len(real) > MAX_PATH_BYTES or len(path) > MAX_PATH_BYTES:
            self._refuse(
                f"the path is too long: at most {MAX_NAME_BYTES} bytes for a name and {MAX_PATH_BYTES} for a path, "
                "so that it fits below the engine's data root"
            )
        self._metadata_bytes += len(name)
        if self._metadata_bytes > self._limits.metadata_bytes:
            self._refuse_more()
        return parent, name, real

    def _directory(self, path: bytes, *, imply: bool) -> tuple[Dir, bytes]:
        """The directory at *path*, through symbolic links, and its path without them."""
        last, parent, where = self._last
        if path == last:
            return parent, where
        if not path:
            return self._root, b""
        direct = self._direct.get(path) or self._direct_child(path)
        if direct is not None:
            self._last = (path, direct, path)
            return direct, path
        _, node, real = self._resolve(path, imply=imply)
        if not isinstance(node, Dir):
            self._refuse(f"{path!r} is not a directory")
        self._last = (path, node, real)
        if real == path:
            self._note_direct(path, node)
        return node, real

    def _direct_child(self, path: bytes) -> Dir | None:
        """The directory at *path* if its parent is known to be reached without symbolic links."""
        above, _, name = path.rpartition(b"/")
        parent = self._direct.get(above) if above else self._root
        node = None if parent is None else parent.children.get(name)
        if not isinstance(node, Dir):
            return None
        self._note_direct(path, node)
        return node

    def _note_direct(self, path: bytes, node: Dir) -> None:
        if len(path) <= LONGEST_DIRECT:
            if len(self._direct) == MOST_DIRECT:
                self._direct.clear()
            self._direct[path] = node

    def _resolve(self, path: bytes, *, imply: bool = False) -> tuple[Dir, Node, bytes]:
        """What *path* leads to, following its last part too, with its parent and its path without symbolic links.

        With *imply*, missing directories are created, but never at the target of a symbolic link.
        """
        names: list[bytes] = []
        above: list[Dir] = [self._root]
        pending = [(part, True) for part in reversed(path.split(b"/"))]
        followed = 0
        node: Node = self._root
        while pending:
            part, literal = pending.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if names:
                    names.pop()
                    above.pop()
                node = above[-1]
                continue
            found = above[-1].children.get(part)
            if found is None:
                if not (imply and literal):
                    self._refuse(
                        f"{b'/'.join([*names, part])!r} is not in the layer"
                        + ("" if literal else ", a symbolic link dangles")
                    )
                found = self._imply(above[-1], b"/".join([*names, part]), part)
            if isinstance(found, Inode) and found.kind == "symlink":
                followed += 1
                parts = found.target.split(b"/")
                self._link_parts += len(parts)
                if followed > MAX_SYMLINKS or self._link_parts > _MAX_LINK_PARTS:
                    self._refuse("too many levels of symbolic links")
                if found.target.startswith(b"/"):
                    names.clear()
                    del above[1:]
                node = above[-1]
                pending.extend((one, False) for one in reversed(parts))
                continue
            node = found
            names.append(part)
            if isinstance(found, Dir):
                above.append(found)
            elif pending:
                self._refuse(f"{b'/'.join(names)!r} is not a directory")
            else:
                return above[-1], found, b"/".join(names)
        return above[-2] if len(above) > 1 else self._root, node, b"/".join(names)

    def _imply(self, parent: Dir, real: bytes, name: bytes) -> Dir:
        if len(name) > MAX_NAME_BYTES or len(real) > MAX_PATH_BYTES:
            self._refuse(f"the path is too long: a name may have {MAX_NAME_BYTES} bytes and a path {MAX_PATH_BYTES}")
        # mkdir inherits the set-group-ID bit from the parent, and the engine keeps it.
        header = Metadata(_IMPLIED_MODE | (parent.metadata.mode & _SETGID), mtime=self._timestamp)
        metadata = self._made(header, "directory", parent)
        self._sink.add(Directory(join(self._diff_root, real), metadata))
        made = parent.children[name] = Dir(metadata, 0, {})
        self.inodes += 1
        self._implied += 1
        self._metadata_bytes += len(real)
        if self.entries + self._implied > self._limits.entries or self._metadata_bytes > self._limits.metadata_bytes:
            self._refuse_more()
        return made

    def _refuse_more(self) -> Never:
        limits = self._limits
        if self._metadata_bytes > limits.metadata_bytes:
            self._refuse(
                f"the layer's names, paths, link targets and attributes have more than {limits.metadata_bytes} bytes; "
                f"{raise_hint('metadata-bytes')}"
            )
        self._refuse(
            f"the layer has more than {limits.entries} entries, directories that are only in paths included; "
            f"{raise_hint('entries')}"
        )

    def _remove(self, parent: Dir, name: bytes, real: bytes) -> None:
        node = parent.children.pop(name)
        self._late.extend(named_directories(node, real))
        self.size -= forget(node)
        self._last = (b"", self._root, b"")
        self._direct.clear()
        self._sink.remove(join(self._diff_root, real))

    def _refuse(self, why: str) -> Never:
        raise LayerError(f"{self._what}: entry {self._current[:300]!r}: {why}. The engine refuses such a layer")
