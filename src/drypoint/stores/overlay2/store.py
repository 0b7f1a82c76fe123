"""The engine's store with the graph driver overlay2, as an implementation of :mod:`drypoint.stores.interface`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ...digest import Digest
from ...fstree import TreeReader, join
from ...oci import Image, Reference
from ...oci.manifest import MAX_CONFIG_BYTES
from ..checked import StoreCheck
from ..contents import StoreContents
from ..listing import StoreListing
from . import paths as layout
from .kept_layers import kept_layers
from .layer_roots import layer_roots
from .listed import list_store
from .planned_store import StorePlan
from .reading import StoreReader
from .record_checks import check_records
from .repositories import MAX_REPOSITORIES_BYTES, merge_repositories_files
from .state import StoreState, read_state
from .state_json import dump_state
from .store_plan import plan_store


class Overlay2(msgspec.Struct, frozen=True):
    """The store in the engine's data root *root*; a :class:`drypoint.stores.Store`."""

    root: bytes

    @property
    def names_path(self) -> bytes:
        return join(self.root, layout.REPOSITORIES)

    def read(self, reader: TreeReader) -> Overlay2Store:
        return Overlay2Store.of(read_state(reader, self.root))

    def unread(self) -> Overlay2Store:
        return Overlay2Store.of(StoreState(self.root))

    def layer_roots(self, reader: TreeReader) -> Iterator[bytes]:
        return layer_roots(reader, self.root)

    @property
    def merge_limit(self) -> int:
        return MAX_REPOSITORIES_BYTES

    def merge(self, present: bytes, added: bytes) -> bytes:
        return merge_repositories_files(present, added)


class Overlay2Store(msgspec.Struct, frozen=True):
    """The value that the store is read as; a :class:`drypoint.stores.ReadStore`."""

    contents: StoreContents
    state: StoreState

    @classmethod
    def of(cls, state: StoreState) -> Overlay2Store:
        contents = StoreContents(
            root=state.data_root,
            exists=bool(state.directories - {b""}),
            names_path=Overlay2(state.data_root).names_path,
            names=state.repositories,
            images=state.images,
            findings=state.findings,
        )
        return cls(contents, state)

    def plan(self, images: Sequence[Image], *, timestamp: int, replaced: Iterable[Reference] = ()) -> StorePlan:
        return plan_store(self.state, images, timestamp=timestamp, replaced=replaced)

    def config(self, reader: TreeReader, image_id: Digest) -> bytes | None:
        return StoreReader(reader, self.state.data_root).content(layout.config_path(image_id), MAX_CONFIG_BYTES)

    def check(self, reader: TreeReader) -> StoreCheck:
        return StoreCheck((*self.state.findings, *check_records(reader, self.state)), kept_layers(self.state))

    def list(self, reader: TreeReader) -> StoreListing:
        return list_store(reader, self.state)

    def dump(self) -> bytes:
        return dump_state(self.state)
