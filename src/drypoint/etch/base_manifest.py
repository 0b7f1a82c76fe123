"""The manifest of a base disk image, made when that is built, so that an archive can be packed while the image streams by.

One JSON object: ``format``, ``partition`` and ``partitionName`` (its number and label), ``blockSize``, ``freeBytes``,
``freeInodes``, and ``store``, the engine's store in that kind's own format.
"""

from __future__ import annotations

import msgspec

from ..decoders import json_decoder
from ..disk import Device
from ..errors import ContentError, StoreError
from ..stores import ReadStore, detect, load_store
from ..system import find_store
from ..volumes.partitioned_disk import PartitionedDisk

FORMAT = 1
MAX_BYTES = 256 << 20


class BaseManifest(msgspec.Struct, frozen=True):
    """The known facts about a base.

    Attributes:
        partition: number of the partition with the store.
        label: its file system's label, or its GPT name.
        block_size: bytes of a block.
        free_bytes: free bytes, without those reserved for root.
        free_inodes: free inodes.
        store: the engine's store.
    """

    partition: int
    label: str
    block_size: int
    free_bytes: int
    free_inodes: int
    store: ReadStore


class _Document(msgspec.Struct, rename="camel"):
    format: int
    partition: int
    partition_name: str
    block_size: int
    free_bytes: int
    free_inodes: int
    store: msgspec.Raw


def base_manifest(device: Device, partition: str | int, data_root: bytes | None) -> bytes:
    """The manifest of the disk image *device* as JSON; the same disk image gives the same bytes.

    Args:
        partition: label, GPT name or number of the partition with the engine's store.
        data_root: the data root in it, a clean path; None for the one configured on the disk image, else ``docker``.

    Raises:
        DiskImageError: there is no such partition, or no undamaged ext file system in it.
        StoreError: there is no store at the data root, or the engine does not use it.
    """
    volume = PartitionedDisk(device).volume(partition)
    volume.check_unmounted()
    geometry = volume.geometry
    place = find_store(volume, data_root)
    if place.obstacles:
        raise StoreError(f"{device.name}: " + ". ".join(map(str, place.obstacles)))
    document = _Document(
        FORMAT,
        volume.number,
        volume.label,
        geometry.block_size,
        max(0, geometry.free_blocks - geometry.reserved_blocks) * geometry.block_size,
        geometry.free_inodes,
        msgspec.Raw(detect(place.data_root).read(volume.reader()).dump()),
    )
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"


def parse_base_manifest(content: bytes, name: str) -> BaseManifest:
    """Parse a manifest from :func:`base_manifest`.

    Raises:
        ContentError: *content* is something else, or damaged.
    """
    if len(content) > MAX_BYTES:
        raise ContentError(f"{name} has more than {MAX_BYTES} bytes, too many for a base's manifest")
    try:
        document = json_decoder(_Document).decode(content)
        if document.format != FORMAT:
            raise ValueError(f"it is of format {document.format}, and this drypoint supports {FORMAT}")
        _check(document)
        store = load_store(document.store)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError, ContentError) as error:
        raise ContentError(
            f"{name} is not a manifest of a base: {error}. drypoint inspect --base-manifest FILE makes one"
        ) from error
    return BaseManifest(
        document.partition,
        document.partition_name,
        document.block_size,
        document.free_bytes,
        document.free_inodes,
        store,
    )


def _check(document: _Document) -> None:
    """Check the numbers."""
    numbers = (document.partition, document.block_size, document.free_bytes, document.free_inodes)
    if min(numbers) < 0 or max(numbers) >= 1 << 62 or not 1024 <= document.block_size <= 1 << 16:
        raise ValueError("a number in it is out of range")
