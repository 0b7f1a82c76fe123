"""The parts of a plan for adding images to a store, as values that every kind of store shares."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..digest import Digest
from ..oci import Image, Layer


class PlannedFile(msgspec.Struct, frozen=True):
    """A small file that belongs to root:root.

    Attributes:
        replaces: whether something is at the path already and must be removed first.
    """

    path: bytes
    content: bytes
    mode: int
    replaces: bool = False


class PlannedLayer(msgspec.Struct, frozen=True):
    """A layer to write.

    Attributes:
        layer: the layer to fetch.
        image: the first of the images that have it; the source fetches it as part of that image.
        images: ids of all the images in the plan that have it, in their order.
        removes: paths of a damaged copy of it in the store, to be removed first.
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
        images: ids of the images in the plan that have it.
        shared_with: ids of the images in the store that have it.
    """

    layer: Layer
    size: int
    images: tuple[Digest, ...]
    shared_with: tuple[Digest, ...]


class RemovedImage(msgspec.Struct, frozen=True):
    """An image to remove, with its names."""

    image_id: Digest
    references: tuple[str, ...]


class KeptImage(msgspec.Struct, frozen=True):
    """An image that was to be removed but is kept, with the reason in words."""

    image_id: Digest
    reference: str
    reason: str


class Removal(msgspec.Struct, frozen=True):
    """What replacing images removes.

    Attributes:
        images: those to remove.
        kept: those that were to be removed, but are needed.
        layers: chain-ids of the layers to remove.
        freed_bytes: the size of these layers, as recorded in the store.
        paths: the paths to remove, in this order.
    """

    images: tuple[RemovedImage, ...] = ()
    kept: tuple[KeptImage, ...] = ()
    layers: tuple[Digest, ...] = ()
    freed_bytes: int = 0
    paths: tuple[bytes, ...] = ()


class LayerRecords(msgspec.Struct, frozen=True):
    """What a layer takes in the store besides its files, which are the same in every store of its kind.

    Attributes:
        blocks, inodes: of the file system, all of them.
        directory_blocks: those of *blocks* that belong to directories. A sink allocates them later than the others.
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
    """The result of applying a layer.

    Attributes:
        size: st_size of all inodes except directories, each counted once.
        entries: how many changes were applied.
        inodes: how many inodes the layer made, including directories that no entry names, without its root directory.
    """

    size: int
    entries: int
    inodes: int
