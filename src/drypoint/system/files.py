"""Reading small files of a root file system as the running system would: through symbolic links."""

from __future__ import annotations

from ..fstree import Directory, Regular, TreeReader, follow_links

_MAX_BYTES = 256 << 10
_MAX_NAMES = 4096


def text_of(reader: TreeReader, root: bytes, path: bytes) -> str | None:
    """The text of the file *path* below the directory *root*; None if it does not exist or is too large for a setting."""
    place = follow_links(reader, path, root).path
    stat = None if place is None else reader.lookup(place)
    if stat is None or not isinstance(stat.entry, Regular) or stat.entry.size > _MAX_BYTES:
        return None
    return b"".join(bytes(chunk) for chunk in reader.read(stat)).decode("utf-8", "replace")


def names_in(reader: TreeReader, root: bytes, path: bytes) -> list[bytes]:
    """The names in the directory *path* below *root*, sorted; empty if it does not exist or has far too many."""
    place = follow_links(reader, path, root).path
    stat = None if place is None else reader.lookup(place)
    if stat is None or not isinstance(stat.entry, Directory):
        return []
    names: list[bytes] = []
    for child in reader.children(stat.entry):
        names.append(child.entry.path.rpartition(b"/")[2])
        if len(names) > _MAX_NAMES:
            return []
    return sorted(names)
