"""What is to be written so that a store holds more images, as values that every kind of store shares."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..digest import Digest
from ..oci import Image, Layer


class PlannedFile(msgspec.Struct, frozen=True):
    """A small file that belongs to root:root.

    Attributes:
        replaces: whether something is at the path already and has to go first.
    """

    path: bytes
    content: bytes
    mode: int
    replaces: bool = False


class PlannedLayer(msgspec.Struct, frozen=True):
    """A layer to be written.

    Attributes:
        layer: what to fetch.
        image: the first of the images that want it, for the source to fetch it by.
        images: ids of all the images in the plan that want it, in their order.
        removes: paths of what a damaged copy of it has left in the store, to be removed first.
    """

    layer: Layer
    image: Image
    images: tuple[Digest, ...]
    removes: tuple[bytes, ...]

    @property
    def chain_id(self) -> Digest:
        return self.layer.chain_id

    @property
    def parent(self) -> Digest | None:
        return self.layer.parent


class SharedLayer(msgspec.Struct, frozen=True):
    """A layer that the store has already.

    Attributes:
        size: bytes it takes in the store.
        images: ids of the images in the plan that want it.
        shared_with: ids of the images in the store that have it.
    """

    layer: Layer
    size: int
    images: tuple[Digest, ...]
    shared_with: tuple[Digest, ...]


class RemovedImage(msgspec.Struct, frozen=True):
    """An image that goes, with the names it had."""

    image_id: Digest
    references: tuple[str, ...]


class KeptImage(msgspec.Struct, frozen=True):
    """An image that was to go and stays, with the reason in words."""

    image_id: Digest
    reference: str
    reason: str


class Removal(msgspec.Struct, frozen=True):
    """What replacing takes away.

    Attributes:
        images: those that go.
        kept: those that were to go, but are needed.
        layers: chain-ids of layers that go.
        freed_bytes: what these layers take, as the store says.
        paths: what is to be removed, in this order.
    """

    images: tuple[RemovedImage, ...] = ()
    kept: tuple[KeptImage, ...] = ()
    layers: tuple[Digest, ...] = ()
    freed_bytes: int = 0
    paths: tuple[bytes, ...] = ()


class LayerRecords(msgspec.Struct, frozen=True):
    """What a layer takes in the store besides what is the same in every store of its kind: its files.

    Attributes:
        blocks, inodes: of the file system, all of them.
        directory_blocks: those of *blocks* that are a directory's. A sink allocates them later than the others.
    """

    blocks: int
    inodes: int
    directory_blocks: int


class StoreSpace(msgspec.Struct, frozen=True):
    """What a plan takes besides its directories, its files and the files of its layers.

    Attributes:
        layers: the records of each layer, by chain-id.
        margin: blocks by which directories that layers share may grow, at most.
    """

    layers: Mapping[Digest, LayerRecords]
    margin: int


class AppliedLayer(msgspec.Struct, frozen=True):
    """What became of a layer.

    Attributes:
        size: st_size of all inodes but directories, each counted once.
        entries: how many changes were applied.
        inodes: how many inodes the layer made, directories that no entry names included, without its root directory.
    """

    size: int
    entries: int
    inodes: int
