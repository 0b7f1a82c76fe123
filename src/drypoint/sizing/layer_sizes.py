"""The unpacked sizes of layers, each from the best known source."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from ..concurrency.pool import ordered_map
from ..concurrency.tasks import FAREWELL_SECONDS
from ..digest import Digest
from ..disk.ext4.resize.geometry import Geometry
from ..errors import SourceError
from ..oci import Layer
from ..sources import ImageSource, SizeHints
from ..stores import PlannedLayer
from .layer_index import IndexedLayer, LayerIndex

_log = logging.getLogger(__name__)

# Uncompressed bytes for each compressed one. Measured with gzip -6 and zstd -3: a Debian userland 2.3 and 2.7, Python
# packages 2.9 and 3.6, documentation 1.7 and 2.0.
_GZIP_RATIO = 2.8
_ZSTD_RATIO = 3.2
# Content that compresses better than files is zeros, most of which become holes. A blob with such a length field, right or
# wrong, is counted as files that compress well.
_HIGHEST_RATIO = 16
# Blocks of 4 KiB take 1.00 to 1.17 times a tar's bytes for userlands, programs, Python packages and documentation; a Debian
# userland 1.11. Trees of JavaScript modules come to 1.35.
BLOCK_OVERHEAD = 1.12
# The same trees have 11 to 54 KiB of tar for each inode, a Debian userland 15, modules of JavaScript 6.
_TAR_BYTES_PER_INODE = 10 << 10
# For growth in the middle of writing: balenaOS makes its file systems with an inode for each 8 KiB.
BYTES_PER_INODE = 8 << 10
_ASKED_AT_ONCE = 8

# Features that affect the blocks and inodes of a tree.
_COMPAT = 0x20  # dir_index
_INCOMPAT = 0x40 | 0x400 | 0x8000  # extents, ea_inode, inline_data
_RO_COMPAT = 0x400  # metadata_csum


class Found(Enum):
    """The sources of a layer's size, best first."""

    SEEN = "seen before"
    """Measured when the layer was written to a file system of this kind: every number is exact."""
    TAR = "length of its tar"
    """The tar's length is certain; its blocks and inodes are estimated."""
    HINT = "from its blob"
    """The compressed blob gives the tar's length, as a hint."""
    GUESS = "compressed size"
    """The compressed size times the usual ratio."""


class LayerSize(msgspec.Struct, frozen=True):
    """The size of a layer, as far as known.

    Attributes:
        tar_bytes: length of its uncompressed tar.
        blocks: blocks of its ``diff/`` and of its tar-split on the disk.
        most: blocks that must be free to write it, at least ``blocks``.
        inodes: number of inodes in its ``diff/``.
    """

    tar_bytes: int
    blocks: int
    most: int
    inodes: int
    found: Found

    @property
    def is_exact(self) -> bool:
        """Whether all numbers are exact."""
        return self.found is Found.SEEN

    @property
    def tar_is_exact(self) -> bool:
        """Whether ``tar_bytes`` is certain."""
        return self.found in (Found.SEEN, Found.TAR)


def filesystem_kind(geometry: Geometry) -> str:
    """The kind of a file system: on two of one kind, the same tree takes the same blocks and inodes."""
    features = (
        geometry.feature_compat & _COMPAT,
        geometry.feature_incompat & _INCOMPAT,
        geometry.feature_ro_compat & _RO_COMPAT,
    )
    return f"ext4-{geometry.block_size}-{geometry.inode_size}-" + "-".join(f"{mask:x}" for mask in features)


def find_sizes(
    layers: Sequence[PlannedLayer],
    sources: Mapping[Digest, ImageSource],
    geometry: Geometry,
    index: LayerIndex | None,
) -> dict[Digest, LayerSize]:
    """The sizes of *layers* by chain-id: from *index*, from hints of their sources, or estimated. Hints come in parallel.

    Args:
        sources: the source of each image by its id.
    """
    kind = filesystem_kind(geometry)
    found: dict[Digest, LayerSize] = {}
    unknown: list[PlannedLayer] = []
    for planned in layers:
        size = _known(planned.layer, kind, geometry.block_size, index)
        if size is not None:
            found[planned.chain_id] = size
        else:
            unknown.append(planned)

    def ask(planned: PlannedLayer) -> int | None:
        return _hint(planned, sources[planned.image.image_id])

    hints = list(ordered_map(ask, unknown, _ASKED_AT_ONCE, "size", patience=FAREWELL_SECONDS))
    for planned, hint in zip(unknown, hints, strict=True):
        found[planned.chain_id] = _estimated(planned.layer, hint, geometry.block_size)
    return found


def _known(layer: Layer, kind: str, block_size: int, index: LayerIndex | None) -> LayerSize | None:
    seen = index.find(layer.diff_id, kind) if index is not None else None
    if seen is not None and _is_plausible(seen, layer, block_size):
        return LayerSize(seen.tar_bytes, seen.blocks, seen.most, seen.inodes, Found.SEEN)
    if layer.blob.digest == layer.diff_id:
        return _sized(layer.blob.size, layer.blob.size, block_size, Found.TAR)
    return None


def _is_plausible(seen: IndexedLayer, layer: Layer, block_size: int) -> bool:
    """Whether the index can be right: other programs may have written to its file."""
    # An entry takes 512 bytes of tar, and at most an inode, a block of attributes and its share in a directory.
    entries = seen.tar_bytes // 512 + 1
    return (
        seen.inodes <= entries * 128
        and seen.blocks <= seen.tar_bytes // block_size + (entries + seen.inodes) * 4
        and seen.most <= seen.blocks * 2 + 4096
        and seen.tar_bytes <= layer.blob.size * 1_100_000
    )


def _hint(planned: PlannedLayer, source: ImageSource) -> int | None:
    if not isinstance(source, SizeHints):
        return None
    try:
        return source.uncompressed_hint(planned.image, planned.layer)
    except SourceError as error:
        _log.info("no hint at the size of layer %s: %s", planned.layer.blob.digest, error)
        return None


def _estimated(layer: Layer, hint: int | None, block_size: int) -> LayerSize:
    blob = layer.blob
    if hint is not None:
        return _sized(hint, min(hint, blob.size * _HIGHEST_RATIO), block_size, Found.HINT)
    ratio = _GZIP_RATIO if "gzip" in blob.media_type else _ZSTD_RATIO if "zstd" in blob.media_type else 1.0
    guess = int(blob.size * ratio)
    return _sized(guess, guess, block_size, Found.GUESS)


def _sized(tar_bytes: int, counted: int, block_size: int, found: Found) -> LayerSize:
    blocks = int(counted * BLOCK_OVERHEAD) // block_size + 1
    return LayerSize(tar_bytes, blocks, blocks, counted // _TAR_BYTES_PER_INODE + 1, found)
