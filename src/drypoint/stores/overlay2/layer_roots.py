"""Finding the directories of layers in a store without reading the rest of it."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import FilesystemError
from ...fstree import Directory, Regular, TreeReader, join
from . import paths as layout

_MAX_LOWER_BYTES = 16 << 10
_MAX_LAYERS = 4096


def layer_roots(reader: TreeReader, data_root: bytes) -> Iterator[bytes]:
    """The directories that layers were unpacked to, uppermost first.

    Raises:
        FilesystemError: the tree cannot be read, or has more layers than any real store.
    """
    cache = join(data_root, layout.CACHE)
    stat = reader.lookup(cache)
    if stat is None or not isinstance(stat.entry, Directory):
        return
    layers: list[tuple[int, bytes]] = []
    for child in reader.children(stat.entry):
        if isinstance(child.entry, Directory) and child.entry.path != join(data_root, layout.LINKS):
            # Each layer lists those below it: the uppermost layer has the longest list.
            lower = reader.lookup(join(child.entry.path, b"lower"))
            size = lower.entry.size if lower is not None and isinstance(lower.entry, Regular) else 0
            layers.append((-min(size, _MAX_LOWER_BYTES), join(child.entry.path, b"diff")))
        if len(layers) > _MAX_LAYERS:
            raise FilesystemError(f"{cache.decode()} holds more than {_MAX_LAYERS} layers")
    yield from (path for _, path in sorted(layers))
