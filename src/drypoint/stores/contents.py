"""The contents of a store, as values that every kind of store shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from ..digest import Digest
from ..oci import Reference

Names: TypeAlias = Mapping[str, Mapping[str, str]]
"""Familiar name → familiar reference → image id, of all names in a store."""


class StoreFinding(msgspec.Struct, frozen=True):
    """A finding about a store: the code of its kind, the path in the tree, and a sentence."""

    code: str
    path: bytes
    text: str


class StoredImage(msgspec.Struct, frozen=True):
    """An image whose config is present and valid.

    Attributes:
        diff_ids: its layers, base first.
        chain_ids: the same layers by chain-id.
        usable: whether all of them are in the store and complete.
    """

    image_id: Digest
    diff_ids: tuple[Digest, ...]
    chain_ids: tuple[Digest, ...]
    usable: bool


class StoreContents(msgspec.Struct, frozen=True):
    """The contents of a store.

    Attributes:
        root: the directory that contains the store, a path in the tree that was read.
        exists: whether there is a store at all.
        names_path: the file that gives images their names.
        names: the names of its images.
        images: by image id, without those whose config is damaged.
        findings: all problems found, sorted by path.
    """

    root: bytes
    exists: bool = False
    names_path: bytes = b""
    names: Names = msgspec.field(default_factory=dict)
    images: Mapping[Digest, StoredImage] = msgspec.field(default_factory=dict)
    findings: tuple[StoreFinding, ...] = ()

    def find(self, reference: Reference) -> Digest | None:
        """The id that *reference* names; as in the engine, a digest takes precedence over a tag."""
        exact = reference if reference.digest is None else reference.with_digest(reference.digest)
        found = self.names.get(reference.familiar_name, {}).get(exact.familiar)
        return None if found is None else Digest(found)

    def loads(self, image_id: Digest) -> bool:
        """Whether the store has the image, and the engine can load it."""
        image = self.images.get(image_id)
        return image is not None and image.usable


class Orphans(msgspec.Struct, frozen=True):
    """What is unused after a plan is carried out. drypoint does not remove it.

    Attributes:
        directories: names, in the store's directory of layers, that belong to no layer and no container.
        layers: chain-ids of layers that no image and no container uses; engines keep them.
        images: ids of images without a name; ``docker image prune`` removes them, with their layers.
        place: that directory of layers, relative to the store's root.
        fate: what engines do with *directories*, as a clause.
    """

    directories: tuple[str, ...] = ()
    layers: tuple[Digest, ...] = ()
    images: tuple[Digest, ...] = ()
    place: str = ""
    fate: str = ""
