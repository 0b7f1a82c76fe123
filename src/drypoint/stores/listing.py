"""A store for display: the images, layers and containers of every kind of store."""

from __future__ import annotations

import msgspec

from ..digest import Digest
from .contents import Orphans, StoreFinding


class ListedImage(msgspec.Struct, frozen=True):
    """An image in a store.

    Attributes:
        references: its names, familiar, tags first.
        platform: ``OS/ARCHITECTURE[/VARIANT]`` as its config says.
        created: RFC 3339, as its config says; None if it does not.
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
        images: those whose config is sound, in the order of their names; unnamed ones last.
        layers: by chain-id.
        orphans: what serves no image.
        findings: what is wrong with the store.
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
