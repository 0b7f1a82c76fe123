"""The plan for a store of overlay2: everything to write, as a value that can write itself."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...digest import Digest
from ...fstree import Directory, TreeSink, join
from ..contents import Orphans
from ..interface import OnLayer, OpenLayer
from ..planned import PlannedFile, Removal, SharedLayer, StoreSpace
from . import paths as layout
from .placement import PlacedLayer
from .record_space import space_of
from .store_write import remove_replaced, write_store


class StorePlan(msgspec.Struct, frozen=True):
    """Everything to write, in the order of writing; a :class:`drypoint.stores.StorePlan`.

    Attributes:
        root: the engine's data root. All paths are those of the tree that holds it.
        timestamp: the mtime of everything that is not from a layer, in nanoseconds since the epoch.
        removal: what is removed before anything is written.
        directories: the store's directories that are missing, parents first.
        layers: the layers to write; a parent comes before its children, and each chain-id once.
        shared: layers of the images that the store has already, which are not fetched.
        marks: ``committed`` files that layers in the store lack.
        records: the records of where the layers came from.
        configs: the configs of images that the store lacks.
        annotations: the times of tagging, for images that get names by tagging.
        repositories: the new repositories.json, or None if it does not change.
        known_images: ids of images that the store has and that the engine can load.
        orphans: what takes space afterwards and is used by no image.
        stored_layers: how many layers the store has.
    """

    root: bytes
    timestamp: int
    removal: Removal
    directories: tuple[Directory, ...]
    layers: tuple[PlacedLayer, ...]
    shared: tuple[SharedLayer, ...]
    marks: tuple[PlannedFile, ...]
    records: tuple[PlannedFile, ...]
    configs: tuple[PlannedFile, ...]
    annotations: tuple[PlannedFile, ...]
    repositories: PlannedFile | None
    known_images: tuple[Digest, ...]
    orphans: Orphans
    stored_layers: int

    @property
    def is_empty(self) -> bool:
        return not (self.removal.paths or self.directories or self.layers or self.files)

    @property
    def fetch_bytes(self) -> int:
        return sum(planned.layer.blob.size for planned in self.layers)

    @property
    def shared_bytes(self) -> int:
        return sum(shared.layer.blob.size for shared in self.shared)

    @property
    def files(self) -> tuple[PlannedFile, ...]:
        last = () if self.repositories is None else (self.repositories,)
        return (*self.marks, *self.records, *self.configs, *self.annotations, *last)

    @property
    def merged_paths(self) -> frozenset[bytes]:
        return frozenset(() if self.repositories is None else (self.repositories.path,))

    def space(self, block_size: int) -> StoreSpace:
        return space_of(self.layers, self.stored_layers, block_size)

    def own_paths(self) -> Iterator[bytes]:
        for placed in self.layers:
            yield join(self.root, layout.cache_path(placed.cache_id))
            yield join(self.root, layout.link_path(placed.link))
            yield join(self.root, layout.layer_path(placed.chain_id))
        merged = self.merged_paths
        yield from (file.path for file in self.files if file.path not in merged)

    def remove(self, sink: TreeSink) -> None:
        remove_replaced(self, sink)

    def write(self, sink: TreeSink, open_layer: OpenLayer, on_layer: OnLayer | None = None) -> None:
        write_store(self, sink, open_layer, on_layer)
