"""Room on the data partition: how much will be needed, as far as can be known.

A registry tells only how large layers are when compressed. What they take on the disk is estimated from that; where the
estimate falls short the sink asks for more while it writes, so a wrong guess costs time and never the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..engine import StorePlan
from ..oci import Descriptor
from .request import ExtraFile

# Uncompressed bytes for each compressed one. Distribution userlands, the bulk of most images, lie at 2.4 to 2.9.
_GZIP_RATIO = 2.8
_ZSTD_RATIO = 3.2
# Rounding up to blocks, directories, extended attributes: a Debian userland needs some 8 % more than its files' bytes.
_BLOCK_OVERHEAD = 1.12
BYTES_PER_INODE = 8 << 10


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system must have free: *blocks* of its own block size, and *inodes*."""

    blocks: int
    inodes: int


def estimate_room(plan: StorePlan, files: Sequence[ExtraFile], block_size: int, additional_space: int) -> Room:
    """What *plan* and *files* will take, and *additional_space* bytes beside them."""
    layers = sum(_uncompressed_size(planned.layer.blob) for planned in plan.layers)
    small_files = plan.small_files + len(files)
    # What the plan removes is not counted: by the time this room is wanted it is free already.
    whole = sum(len(file.content) for file in (*plan.configs, *plan.records)) + sum(len(file.content) for file in files)
    if plan.repositories is not None:
        whole += len(plan.repositories.content)
    blocks = int(layers * _BLOCK_OVERHEAD) // block_size + small_files + (whole + additional_space) // block_size + 1
    return Room(blocks, layers // BYTES_PER_INODE + small_files)


def spare_room(block_size: int, additional_space: int) -> Room:
    """What has to be free in the end; the same that :func:`estimate_room` wants when nothing is left to be written."""
    return Room(additional_space // block_size + 1, 0)


def _uncompressed_size(blob: Descriptor) -> int:
    """A guess from the compressed size and what the media type says."""
    if "gzip" in blob.media_type:
        return int(blob.size * _GZIP_RATIO)
    if "zstd" in blob.media_type:
        return int(blob.size * _ZSTD_RATIO)
    return blob.size
