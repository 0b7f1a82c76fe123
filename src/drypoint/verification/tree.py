"""A layer's ``diff/`` on the disk, with a cache of directories."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from ..fstree import Directory, Stat, Symlink, TreeReader, join
from ..layers.tarsplit import clean_name

_REMEMBERED = 1 << 15
"""Most entries in the cache; the directory read last is kept whatever its size."""
_MAX_SYMLINKS = 40


def path_below(path: bytes) -> bytes:
    """The path of a cleaned name in a chroot, where ``..`` does not lead above the root."""
    return path if path[:1] not in (b".", b"/") else clean_name(b"/" + path)[1:]


class LayerTree:
    """The tree at *diff* of *reader*. Paths are relative to it.

    Raises, from every method:
        FilesystemError: the tree cannot be read.
    """

    def __init__(self, reader: TreeReader, diff: bytes) -> None:
        self.diff = diff
        self._reader = reader
        self._known: OrderedDict[bytes, dict[bytes, Stat]] = OrderedDict()
        self._entries = 0

    def walk(self) -> Iterator[tuple[bytes, Stat]]:
        """Everything, the root included, with its path."""
        top = self._reader.lookup(self.diff)
        pending = [(b"", top)] if top is not None else []
        while pending:
            path, stat = pending.pop()
            yield path, stat
            if isinstance(stat.entry, Directory):
                prefix = path + b"/" if path else b""
                pending.extend([(prefix + name, child) for name, child in self._names(path).items()])

    def find(self, name: bytes) -> Stat | None:
        """The entry of the clean tar name *name*, following symbolic links above it as an engine does that unpacks in a
        chroot."""
        path = path_below(name)
        parent, _, last = path.rpartition(b"/")
        found = self._names(parent).get(last)
        return found if found is not None else self._behind_links(parent, last)

    def read(self, stat: Stat) -> Iterator[memoryview]:
        """The content of a regular file."""
        return self._reader.read(stat)

    def _behind_links(self, parent: bytes, last: bytes) -> Stat | None:
        real: list[bytes] = []
        pending = parent.split(b"/")[::-1] if parent else []
        followed = 0
        while pending:
            part = pending.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del real[-1:]
                continue
            stat = self._names(b"/".join(real)).get(part)
            if stat is None:
                return None
            if isinstance(stat.entry, Symlink):
                followed += 1
                if followed > _MAX_SYMLINKS:
                    return None
                if stat.entry.target.startswith(b"/"):
                    real.clear()
                pending.extend(stat.entry.target.split(b"/")[::-1])
            elif isinstance(stat.entry, Directory):
                real.append(part)
            else:
                return None
        return self._names(b"/".join(real)).get(last)

    def _names(self, path: bytes) -> dict[bytes, Stat]:
        """The entries of the directory *path*, by name; empty if there is no such directory."""
        found = self._known.get(path)
        if found is not None:
            self._known.move_to_end(path)
            return found
        found = {}
        where = join(self.diff, path)
        stat = self._reader.lookup(where)
        if stat is not None and isinstance(stat.entry, Directory):
            above = len(where) + 1 if where else 0
            found = {child.entry.path[above:]: child for child in self._reader.children(stat.entry)}
        self._known[path] = found
        self._entries += len(found) + 1
        while self._entries > _REMEMBERED and len(self._known) > 1:
            self._entries -= len(self._known.popitem(last=False)[1]) + 1
        return found
