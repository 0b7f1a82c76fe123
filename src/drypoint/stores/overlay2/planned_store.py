"""A planned store: what has to be written, as a value that writes itself."""

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
    """Everything that has to be written, in the order of writing; a :class:`drypoint.stores.StorePlan`.

    Attributes:
        root: the engine's data root. All paths are those of the tree that holds it.
        timestamp: the mtime of everything that no layer dictates, in nanoseconds since the epoch.
        removal: what goes before anything is written.
        directories: those of the store that are missing, parents first.
        layers: to be written; a parent comes before its children, and each chain-id once.
        shared: layers of the images that the store has already, so that nothing is fetched for them.
        marks: ``committed`` files that layers in the store lack.
        records: the engine's memory of where the layers came from.
        configs: of the images that the store lacks.
        annotations: when images were tagged, for those that get names by tagging.
        repositories: the new repositories.json, or None if the present one says it all.
        known_images: ids of images that the store holds, soundly.
        orphans: what will take space and serve no image.
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
