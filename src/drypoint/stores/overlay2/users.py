"""Reading what uses the images and layers of a store, besides their names.

Format: moby, image/fs.go (metadata), layer/filestore.go (mounts), container/container.go (config.v2.json).
"""

from __future__ import annotations

import msgspec

from ...digest import Digest, parse_digest
from ...errors import ContentError
from ...fstree import Directory, join
from ...go_json import JsonError, decode_go
from . import paths as layout
from .identity import CACHE_ID
from .reading import StoreReader

_MAX_CONTAINER_BYTES = 4 << 20


class StoreUsers(msgspec.Struct, frozen=True):
    """What uses images and layers, besides their names.

    Attributes:
        container_images: images that containers were made from.
        mount_layers: the layers directly below containers' own layers.
        parent_images: images that others in the store were built from.
        updated: images with a record of when they were last tagged.
        annotated: images with a directory of such records, empty or not.
        uncertain: paths of records of users that are malformed: then anything may be in use.
    """

    container_images: frozenset[Digest] = frozenset()
    mount_layers: frozenset[Digest] = frozenset()
    parent_images: frozenset[Digest] = frozenset()
    updated: frozenset[Digest] = frozenset()
    annotated: frozenset[Digest] = frozenset()
    uncertain: tuple[bytes, ...] = ()


class _Container(msgspec.Struct, rename="pascal"):
    image: str = ""


def read_users(store: StoreReader) -> StoreUsers:
    """Everything that uses something; what is malformed is reported, and recorded as uncertain."""
    uncertain: list[bytes] = []
    container_images: set[Digest] = set()
    for name, stat in store.names(layout.CONTAINERS):
        if isinstance(stat.entry, Directory):
            path = join(layout.CONTAINERS, name.encode("ascii"), b"config.v2.json")
            _note(_container_image(store, path), container_images, path, uncertain)
    mount_layers: set[Digest] = set()
    for name, _ in store.names(layout.MOUNTS):
        # A container from an image without layers has no parent here.
        path = join(layout.MOUNTS, name.encode("ascii"), b"parent")
        if store.exists(path):
            _note(store.digest(path), mount_layers, path, uncertain)
    parent_images: set[Digest] = set()
    updated: set[Digest] = set()
    annotated: set[Digest] = set()
    for name, _ in store.names(layout.ANNOTATIONS):
        if CACHE_ID.fullmatch(name) is None:
            continue
        directory = join(layout.ANNOTATIONS, name.encode("ascii"))
        annotated.add(Digest(f"sha256:{name}"))
        if store.exists(join(directory, b"lastUpdated")):
            updated.add(Digest(f"sha256:{name}"))
        path = join(directory, b"parent")
        if store.exists(path):
            _note(store.digest(path), parent_images, path, uncertain)
    return StoreUsers(
        frozenset(container_images),
        frozenset(mount_layers),
        frozenset(parent_images),
        frozenset(updated),
        frozenset(annotated),
        tuple(uncertain),
    )


def _note(found: Digest | None, known: set[Digest], path: bytes, uncertain: list[bytes]) -> None:
    if found is None:
        uncertain.append(path)
    else:
        known.add(found)


def _container_image(store: StoreReader, path: bytes) -> Digest | None:
    content = store.content(path, _MAX_CONTAINER_BYTES)
    if content is None:
        return None
    try:
        return parse_digest(decode_go(content, _Container, first=True).image)
    except (JsonError, ContentError) as error:
        store.report("unreadable-json", path, f"the container's configuration does not name its image: {error}")
        return None
