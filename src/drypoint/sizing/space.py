"""The space needed on the data partition.

A registry only gives the compressed size of layers. Unless their size on the disk is known from an earlier run, it is
estimated; if the estimate is too low, the sink requests more while it writes, so that a wrong estimate only costs time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..digest import Digest
from ..fstree.extra_file import ExtraFile
from ..sinks.ext4_meter import Taken
from ..stores import LayerRecords, StorePlan
from .layer_index import IndexedLayer
from .layer_sizes import LayerSize

# Blocks that the sink needs free beyond a file's own.
_SINK_MARGIN = 32


class Space(msgspec.Struct, frozen=True):
    """Free space of a file system: *blocks* of its own block size, and *inodes*."""

    blocks: int
    inodes: int


def estimate_space(
    plan: StorePlan,
    sizes: Mapping[Digest, LayerSize],
    files: Sequence[ExtraFile],
    block_size: int,
    additional_space: int,
) -> Space:
    """The space for *plan* and *files*, and *additional_space* bytes more; exact as far as *sizes* are.

    What the plan removes is not counted: it is free by the time this space is used.

    Args:
        sizes: of the layers to write, by chain-id.
    """
    spare = spare_space(block_size, additional_space)
    taken = space_taken(plan, sizes, files, block_size)
    if not taken.inodes and not plan.files and not files:
        return spare
    store = plan.space(block_size)
    before = most = len(plan.directories)
    for planned in plan.layers:
        size, records = sizes[planned.chain_id], store.layers[planned.chain_id]
        most = max(most, before + records.blocks + size.most)
        before += records.blocks + size.blocks
    return Space(max(most, taken.blocks + spare.blocks) + _SINK_MARGIN + store.margin, taken.inodes)


def space_taken(
    plan: StorePlan, sizes: Mapping[Digest, LayerSize], files: Sequence[ExtraFile], block_size: int
) -> Space:
    """The space used at the end, without that of existing directories that become longer."""
    contents = [file.content for file in plan.files] + [file.content for file in files]
    spaces = [
        Space(len(plan.directories), len(plan.directories)),
        *(Space(_blocks(content, block_size), 1) for content in contents),
        *(Space(records.blocks, records.inodes) for records in plan.space(block_size).layers.values()),
        *(Space(sizes[planned.chain_id].blocks, sizes[planned.chain_id].inodes) for planned in plan.layers),
    ]
    return Space(sum(space.blocks for space in spaces), sum(space.inodes for space in spaces))


def spare_space(block_size: int, additional_space: int) -> Space:
    """The space that must be free at the end; equals :func:`estimate_space` if nothing is left to write."""
    return Space(additional_space // block_size + 1, 0)


def content_of(records: LayerRecords, taken: Taken, tar_bytes: int) -> IndexedLayer:
    """The part of *taken* that is the same for a layer in every store."""
    # Directories of its records are still in memory when the layer is measured.
    blocks = records.blocks - records.directory_blocks
    return IndexedLayer(tar_bytes, taken.blocks - blocks, taken.most - blocks, taken.inodes - records.inodes)


def _blocks(content: bytes, block_size: int) -> int:
    return -(-len(content) // block_size)
