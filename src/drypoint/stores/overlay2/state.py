"""The state of an existing store, as a value.

Reading never changes anything, and damage does not stop it: it becomes a :class:`Finding`, and what is damaged is not
shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from ...digest import Digest
from ...errors import StoreError
from ...fstree import Directory, TreeReader, join
from ..contents import Names, StoredImage, StoreFinding
from . import paths as layout
from .distribution import V2Metadata
from .imagedb import read_images
from .layerdb import StoredLayer, read_layers
from .reading import StoreReader
from .records import read_records
from .repositories import MAX_REPOSITORIES_BYTES, parse_repositories
from .users import StoreUsers, read_users

RepositoriesFile: TypeAlias = Literal["absent", "readable", "unreadable"]


class StoreState(msgspec.Struct, frozen=True):
    """The parts of a data root that hold images.

    Attributes:
        data_root: its path in the tree that was read.
        directories: those of the store's fixed directories that exist, relative to the data root; empty if there is no store.
        repositories: the names in repositories.json.
        repositories_file: whether there is one, and whether it can be read.
        images: by image id, without those whose config is damaged.
        damaged_configs: names of configs whose content does not have the digest in their name.
        layers: by chain-id, complete or not.
        cache_names: every name in ``overlay2/``, whether or not a layer uses it.
        links: every name in ``overlay2/l/``, with the cache-id that it leads to, or the empty string.
        mounts: the cache-ids of containers' own layers.
        diff_ids: the recorded diff-id of each blob.
        origins: the recorded blobs of each diff-id, oldest first; empty for a damaged record.
        users: what needs images and layers besides their names.
        findings: all problems found, sorted by path.
        above: if there is no data root, how many of the directories above it exist, counted from the tree's root.
    """

    data_root: bytes
    directories: frozenset[bytes] = frozenset()
    repositories: Names = msgspec.field(default_factory=dict)
    repositories_file: RepositoriesFile = "absent"
    images: Mapping[Digest, StoredImage] = msgspec.field(default_factory=dict)
    damaged_configs: frozenset[Digest] = frozenset()
    layers: Mapping[Digest, StoredLayer] = msgspec.field(default_factory=dict)
    cache_names: frozenset[str] = frozenset()
    links: Mapping[str, str] = msgspec.field(default_factory=dict)
    mounts: frozenset[str] = frozenset()
    diff_ids: Mapping[Digest, Digest] = msgspec.field(default_factory=dict)
    origins: Mapping[Digest, tuple[V2Metadata, ...]] = msgspec.field(default_factory=dict)
    users: StoreUsers = msgspec.field(default_factory=StoreUsers)
    findings: tuple[StoreFinding, ...] = ()
    above: int = 0


def read_state(reader: TreeReader, data_root: bytes) -> StoreState:
    """Read the store at *data_root*, a clean path. No data root, or an empty one, is an empty store.

    Raises:
        StoreError: the data root or a parent of it is not a directory, or it holds more than any real store.
    """
    stat = reader.lookup(data_root)
    if stat is None:
        return StoreState(data_root, above=_existing_above(reader, data_root))
    if not isinstance(stat.entry, Directory):
        raise StoreError(f"the data root {data_root.decode('utf-8', 'backslashreplace')!r} is not a directory")
    store = StoreReader(reader, data_root)
    directories = _directories(store)
    repositories, repositories_file = _repositories(store)
    found = read_layers(store)
    images, damaged_configs = read_images(store, found.layers)
    _check_references(store, repositories, images)
    diff_ids, origins = read_records(store)
    users = read_users(store)
    return StoreState(
        data_root=data_root,
        directories=directories,
        repositories=repositories,
        repositories_file=repositories_file,
        images=images,
        damaged_configs=damaged_configs,
        layers=found.layers,
        cache_names=found.cache_names,
        links=found.links,
        mounts=found.mounts,
        diff_ids=diff_ids,
        origins=origins,
        users=users,
        findings=tuple(sorted(store.findings, key=lambda finding: (finding.path, finding.code, finding.text))),
    )


def _existing_above(reader: TreeReader, data_root: bytes) -> int:
    parts = data_root.split(b"/")
    for count in range(1, len(parts)):
        path = b"/".join(parts[:count])
        stat = reader.lookup(path)
        if stat is None:
            return count - 1
        if not isinstance(stat.entry, Directory):
            raise StoreError(
                f"the data root {data_root.decode('utf-8', 'backslashreplace')!r} cannot be created: "
                f"{path.decode('utf-8', 'backslashreplace')!r} is not a directory"
            )
    return len(parts) - 1


def _directories(store: StoreReader) -> frozenset[bytes]:
    known = layout.BASIC_DIRECTORIES + layout.LAYER_DIRECTORIES + layout.RECORD_DIRECTORIES
    return frozenset(path for path, _ in known if store.is_directory(path))


def _repositories(store: StoreReader) -> tuple[Names, RepositoriesFile]:
    if not store.exists(layout.REPOSITORIES):
        return {}, "absent"
    content = store.content(layout.REPOSITORIES, MAX_REPOSITORIES_BYTES)
    if content is None:
        return {}, "unreadable"
    try:
        return parse_repositories(content), "readable"
    except StoreError as error:
        store.report("unreadable-json", layout.REPOSITORIES, f"{error}; the engine does not start on it")
        return {}, "unreadable"


def _check_references(store: StoreReader, repositories: Names, images: Mapping[Digest, StoredImage]) -> None:
    for references in repositories.values():
        for reference, image_id in references.items():
            if Digest(image_id) not in images:
                store.report(
                    "reference-without-image", layout.REPOSITORIES, f"{reference} names {image_id}, which is missing"
                )


def store_path(state: StoreState, path: bytes) -> bytes:
    """*path*, relative to the data root, as a path of the tree that holds the store."""
    return join(state.data_root, path)
