"""What a base disk image holds, written down when it was built, so that an archive can be made while the image streams by.

One JSON object: ``format``, ``partition`` and ``partitionName`` (its number and label), ``blockSize``, ``freeBytes``,
``freeInodes``, and ``store``, what the engine's store holds as that kind of store writes it down.
"""

from __future__ import annotations

import msgspec

from ..decoders import json_decoder
from ..disk import Device, Window, find_partition, read_table
from ..disk.ext4.read.reader import Ext4Reader
from ..disk.ext4.resize.geometry import read_geometry
from ..disk.ext4.resize.grow import check_unmounted
from ..errors import ContentError, FilesystemError, StoreError
from ..stores import ReadStore, detect, load_store
from ..system import find_store

FORMAT = 1
MAX_BYTES = 256 << 20


class BaseManifest(msgspec.Struct, frozen=True):
    """What is known of a base.

    Attributes:
        partition: number of the partition with the store.
        label: its file system's label, or its GPT name.
        block_size: bytes of a block.
        free_bytes: what is free for everybody.
        free_inodes: inodes that are free.
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
    """Write down what the disk image *device* holds; the same disk image gives the same bytes.

    Args:
        partition: label, GPT name or number of the one with the engine's store.
        data_root: where the store is in it, a clean path; None for what the system on the disk image says, else ``docker``.

    Raises:
        DiskImageError: there is no such partition, or no sound ext file system in it.
        StoreError: what is at the data root is not a store, or not one that the engine reads.
    """
    table = read_table(device)
    found = find_partition(device, table, partition)
    if found.filesystem is None or not found.filesystem.kind.is_ext:
        kind = found.filesystem.kind.value if found.filesystem else "no known file system"
        raise FilesystemError(f"{device.name}: partition {found.partition.number} holds {kind}, expected ext4")
    window = Window(device, found.partition.start, found.partition.size)
    geometry = read_geometry(window)
    check_unmounted(geometry, f"{device.name}: the file system of partition {found.partition.number}")
    place = find_store(device, table, found.partition.number, data_root)
    if place.obstacles:
        raise StoreError(f"{device.name}: " + ". ".join(map(str, place.obstacles)))
    document = _Document(
        FORMAT,
        found.partition.number,
        found.filesystem.label or found.partition.name,
        geometry.block_size,
        max(0, geometry.free_blocks - geometry.reserved_blocks) * geometry.block_size,
        geometry.free_inodes,
        msgspec.Raw(detect(place.data_root).read(Ext4Reader(window)).dump()),
    )
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"


def parse_base_manifest(content: bytes, name: str) -> BaseManifest:
    """Read what :func:`base_manifest` has written.

    Raises:
        ContentError: *content* is something else, or damaged.
    """
    if len(content) > MAX_BYTES:
        raise ContentError(f"{name} has more than {MAX_BYTES} bytes, too many for a base's manifest")
    try:
        document = json_decoder(_Document).decode(content)
        if document.format != FORMAT:
            raise ValueError(f"it is of format {document.format}, and this drypoint knows {FORMAT}")
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
    """What is counted with is what it should be."""
    numbers = (document.partition, document.block_size, document.free_bytes, document.free_inodes)
    if min(numbers) < 0 or max(numbers) >= 1 << 62 or not 1024 <= document.block_size <= 1 << 16:
        raise ValueError("a number in it is out of range")
