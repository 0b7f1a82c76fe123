"""Space on the data partition: how much will be needed, as far as can be known.

A registry tells only how large layers are when compressed. Where what they take on the disk is not known from an earlier time
it is estimated; where the estimate falls short the sink asks for more while it writes, so a wrong guess costs time and never
the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..digest import Digest
from ..fstree.extra_file import ExtraFile
from ..sinks.ext4_meter import Taken
from ..stores.overlay2 import StorePlan
from ..stores.overlay2.paths import link_target, lower_text
from ..stores.overlay2.placement import PlannedLayer
from .layer_index import SeenLayer
from .layer_sizes import LayerSize

# What the sink wants to have free beyond a file's own blocks, whatever it writes.
_SINK_MARGIN = 32
# Directories of the store that get a name or more for each layer, and the bytes of these: overlay2 and overlay2/l, layerdb,
# and both kinds of records. Each is counted as the sink reserves for it, with some blocks for its tree.
_SHARED_DIRECTORIES = 5
_NAMES_OF_A_LAYER = 4 * 72 + 36
_DIRECTORY_MARGIN = 10
_DIRECTORY_FILL = 2


class Space(msgspec.Struct, frozen=True):
    """What a file system must have free: *blocks* of its own block size, and *inodes*."""

    blocks: int
    inodes: int


def estimate_space(
    plan: StorePlan,
    sizes: Mapping[Digest, LayerSize],
    files: Sequence[ExtraFile],
    layers_there: int,
    block_size: int,
    additional_space: int,
) -> Space:
    """What *plan* and *files* will take, and *additional_space* bytes beside them; exact as far as *sizes* are.

    What the plan removes is not counted: it is free by the time this space is used.

    Args:
        sizes: those of the layers to be written, by chain-id.
        layers_there: how many the store has.
    """
    spare = spare_space(block_size, additional_space)
    taken = space_taken(plan, sizes, files, block_size)
    if not taken.inodes and not plan.files and not files:
        return spare
    names = (layers_there + len(plan.layers)) * _NAMES_OF_A_LAYER * _DIRECTORY_FILL
    margin = _SINK_MARGIN + _SHARED_DIRECTORIES * _DIRECTORY_MARGIN + names // block_size
    before = most = len(plan.directories)
    for planned in plan.layers:
        size, beside = sizes[planned.chain_id], beside_content(planned, block_size)
        most = max(most, before + beside.blocks + size.most)
        before += beside.blocks + size.blocks
    return Space(max(most, taken.blocks + spare.blocks) + margin, taken.inodes)


def space_taken(
    plan: StorePlan, sizes: Mapping[Digest, LayerSize], files: Sequence[ExtraFile], block_size: int
) -> Space:
    """What is taken in the end, but for directories that are there already and become longer."""
    contents = [file.content for file in plan.files] + [file.content for file in files]
    spaces = [
        Space(len(plan.directories), len(plan.directories)),
        *(Space(_blocks(content, block_size), 1) for content in contents),
        *(beside_content(planned, block_size) for planned in plan.layers),
        *(Space(sizes[planned.chain_id].blocks, sizes[planned.chain_id].inodes) for planned in plan.layers),
    ]
    return Space(sum(space.blocks for space in spaces), sum(space.inodes for space in spaces))


def spare_space(block_size: int, additional_space: int) -> Space:
    """What has to be free in the end; the same that :func:`estimate_space` wants when nothing is left to be written."""
    return Space(additional_space // block_size + 1, 0)


def beside_content(planned: PlannedLayer, block_size: int) -> Space:
    """What a layer takes beside the content of its ``diff/`` and of its tar-split."""
    directories, files = _directories(planned), _files(planned)
    # Also the inodes of diff/ and of the tar-split, and the symbolic link in overlay2/l.
    link = _blocks(link_target(planned.cache_id), block_size)
    blocks = directories + sum(_blocks(content, block_size) for content in files) + link
    return Space(blocks, directories + len(files) + 3)


def content_of(planned: PlannedLayer, taken: Taken, tar_bytes: int, block_size: int) -> SeenLayer:
    """What of all that *taken* says of a layer is the same in every store."""
    beside = beside_content(planned, block_size)
    # Directories beside diff/ are still in memory when the layer is measured.
    blocks = beside.blocks - _directories(planned)
    return SeenLayer(tar_bytes, taken.blocks - blocks, taken.most - blocks, taken.inodes - beside.inodes)


def _directories(planned: PlannedLayer) -> int:
    """Its directory in overlay2/, that in layerdb, and work/; a block each."""
    return 2 + (planned.parent is not None)


def _files(planned: PlannedLayer) -> list[bytes]:
    """Its small files in both; of some only the length is right, in blocks."""
    found = [planned.link.encode(), planned.cache_id.encode(), planned.layer.diff_id.encode(), b"0"]
    if planned.parent is not None:
        found += [lower_text(planned.lower), planned.parent.encode()]
    if planned.committed:
        found.append(b"")
    return found


def _blocks(content: bytes, block_size: int) -> int:
    return -(-len(content) // block_size)
