"""The space that the records of layers take in a file system, in blocks and inodes."""

from __future__ import annotations

from collections.abc import Sequence

from ..planned import LayerRecords, StoreSpace
from .paths import link_target, lower_text
from .placement import PlacedLayer

# Directories of the store that get a name or more for each layer, and the bytes of these names: overlay2 and overlay2/l,
# layerdb, and both kinds of records. Each counts with what the sink reserves for it, some blocks for its tree included.
_SHARED_DIRECTORIES = 5
_NAMES_OF_A_LAYER = 4 * 72 + 36
_DIRECTORY_MARGIN = 10
_DIRECTORY_FILL = 2


def space_of(layers: Sequence[PlacedLayer], stored_layers: int, block_size: int) -> StoreSpace:
    """The space that *layers* take besides the content of their ``diff/`` and of their tar-splits.

    Args:
        stored_layers: how many layers the store has.
    """
    names = (stored_layers + len(layers)) * _NAMES_OF_A_LAYER * _DIRECTORY_FILL
    margin = _SHARED_DIRECTORIES * _DIRECTORY_MARGIN + names // block_size
    return StoreSpace({placed.chain_id: _records(placed, block_size) for placed in layers}, margin)


def _records(placed: PlacedLayer, block_size: int) -> LayerRecords:
    # Its directory in overlay2/, that in layerdb, and work/; a block each.
    directories = 2 + (placed.parent is not None)
    files = _files(placed)
    # Also the inodes of diff/ and of the tar-split, and the symbolic link in overlay2/l.
    link = _blocks(link_target(placed.cache_id), block_size)
    blocks = directories + sum(_blocks(content, block_size) for content in files) + link
    return LayerRecords(blocks, directories + len(files) + 3, directories)


def _files(placed: PlacedLayer) -> list[bytes]:
    """Contents for its small files in both directories; some of them only have the right length in blocks."""
    found = [placed.link.encode(), placed.cache_id.encode(), placed.layer.diff_id.encode(), b"0"]
    if placed.parent is not None:
        found += [lower_text(placed.lower), placed.parent.encode()]
    if placed.committed:
        found.append(b"")
    return found


def _blocks(content: bytes, block_size: int) -> int:
    return -(-len(content) // block_size)
