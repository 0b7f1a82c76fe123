"""The listing of a store: its images, layers and containers, the same for every kind of store."""

from __future__ import annotations

import msgspec

from ..digest import Digest
from .contents import Orphans, StoreFinding


class ListedImage(msgspec.Struct, frozen=True):
    """An image in a store.

    Attributes:
        references: its familiar names, tags first.
        platform: ``OS/ARCHITECTURE[/VARIANT]``, from its config.
        created: RFC 3339, from its config; None if that has no time.
        layers: chain-ids, base first.
        size: bytes of all its layers, as ``docker images`` counts; None if one is missing.
        usable: whether the engine can load it: all layers are there and complete.
    """

    image_id: Digest
    references: tuple[str, ...]
    platform: str
    created: str | None
    layers: tuple[Digest, ...]
    size: int | None
    usable: bool


class ListedLayer(msgspec.Struct, frozen=True):
    """A layer in a store.

    Attributes:
        detail: identifiers that only this kind of store has, as pairs of key and value.
        size: bytes it takes, as the engine notes; None if it does not.
        images: ids of the images that have it.
        usable: whether it is complete, and all below it.
    """

    chain_id: Digest
    diff_id: Digest | None
    parent: Digest | None
    detail: tuple[tuple[str, str | None], ...]
    size: int | None
    images: tuple[Digest, ...]
    usable: bool


class ListedContainer(msgspec.Struct, frozen=True):
    """A container: *name* is the one given by users; *image_id* is None if its configuration has none."""

    container_id: str
    name: str
    image_id: Digest | None


class StoreListing(msgspec.Struct, frozen=True):
    """An engine's store.

    Attributes:
        root: the directory that contains the store.
        images: those whose config is valid, in the order of their names; unnamed ones last.
        layers: by chain-id.
        orphans: what is used by no image.
        findings: the problems found in the store.
    """

    root: bytes
    images: tuple[ListedImage, ...]
    layers: tuple[ListedLayer, ...]
    containers: tuple[ListedContainer, ...]
    orphans: Orphans
    findings: tuple[StoreFinding, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers, each once."""
        return sum(layer.size or 0 for layer in self.layers)
