"""A store: what every kind of it can do.

Reading gives a value, planning is a pure function of values, and only writing touches a tree. Each kind knows its own layout;
callers know the values of :mod:`.contents` and :mod:`.planned`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from ..digest import Digest
from ..fstree import Content, Directory, TreeReader, TreeSink
from ..layers.change import Change
from ..limits import Limits
from ..oci import Image, Reference
from .checked import StoreCheck
from .contents import Orphans, StoreContents
from .listing import StoreListing
from .planned import AppliedLayer, PlannedFile, PlannedLayer, Removal, SharedLayer, StoreSpace


class TarSplitContent(Protocol):
    """The finished ``tar-split.json.gz`` of a layer."""

    @property
    def size(self) -> int: ...

    def chunks(self) -> Iterator[bytes | memoryview]: ...


class LayerStream(Protocol):
    """A layer as its tar is read: what it changes, with content; and then its tar-split, once all of it has been read.

    The iteration ends only when the layer has proved to be what its digests say; otherwise it raises ContentError.
    """

    def __iter__(self) -> Iterator[tuple[Change, Content | None]]: ...

    @property
    def limits(self) -> Limits:
        """What it may come to; the store refuses more with LayerError."""
        ...

    @property
    def tar_split(self) -> TarSplitContent: ...


OpenLayer: TypeAlias = Callable[[PlannedLayer], AbstractContextManager[LayerStream]]
OnLayer: TypeAlias = Callable[[PlannedLayer, AppliedLayer], None]


class StorePlan(Protocol):
    """Everything that has to be written so that a store holds more images: a value, and how it is written."""

    @property
    def root(self) -> bytes:
        """The directory that contains the store. All paths are paths in the tree that contains it."""

    @property
    def removal(self) -> Removal:
        """What goes before anything is written."""

    @property
    def directories(self) -> tuple[Directory, ...]:
        """Those of the store that are missing, parents first."""

    @property
    def layers(self) -> Sequence[PlannedLayer]:
        """To be written; a parent comes before its children, and each chain-id once."""

    @property
    def shared(self) -> tuple[SharedLayer, ...]:
        """Layers of the images that the store has already, so that nothing is fetched for them."""

    @property
    def files(self) -> tuple[PlannedFile, ...]:
        """The small files that belong to no layer, in the order of writing."""

    @property
    def merged_paths(self) -> frozenset[bytes]:
        """Those of *files* that other images need too: an existing file is merged, not replaced."""

    @property
    def known_images(self) -> tuple[Digest, ...]:
        """Ids of images that the store has and that load."""

    @property
    def orphans(self) -> Orphans:
        """What takes space afterwards and serves no image."""

    @property
    def is_empty(self) -> bool:
        """Whether the store holds everything already."""

    @property
    def fetch_bytes(self) -> int:
        """How many bytes of blobs have to be fetched, as the manifests give their sizes."""

    @property
    def shared_bytes(self) -> int:
        """How many bytes of blobs need not be fetched, because the store has those layers."""

    def space(self, block_size: int) -> StoreSpace:
        """What a file system with blocks of *block_size* bytes needs for it."""

    def own_paths(self) -> Iterator[bytes]:
        """Paths of all that is written, without merged files: where the store was not read, they replace what it has there."""

    def remove(self, sink: TreeSink) -> None:
        """Remove what the plan replaces. Called before :meth:`write`, and before space is made: what it frees is used."""

    def write(self, sink: TreeSink, open_layer: OpenLayer, on_layer: OnLayer | None = None) -> None:
        """Write all of it, one layer after the other. The sink is not finished: that is the caller's.

        Args:
            open_layer: gives the content of a layer; entered and left once for each, in the plan's order.
            on_layer: is called with each layer when it is written.

        Raises:
            ContentError: a layer is not what it should be.
            FilesystemError: the tree cannot take something.
        """


class ReadStore(Protocol):
    """A store as it was read: a value."""

    @property
    def contents(self) -> StoreContents: ...

    def plan(self, images: Sequence[Image], *, timestamp: int, replaced: Iterable[Reference] = ()) -> StorePlan:
        """Plan how *images* get into the store.

        Args:
            timestamp: nanoseconds since the epoch, for the mtimes of what drypoint makes itself.
            replaced: names of images that go, as far as nothing else needs them.

        Raises:
            StoreError: the store cannot be added to, an image has more layers than the engine takes, or a reference cannot be
                what it should be.
            FilesystemError: something in the store cannot be read because its file system is damaged.
        """

    def config(self, reader: TreeReader, image_id: Digest) -> bytes | None:
        """The config of an image in the store, read again from *reader*; None if it cannot be read."""

    def check(self, reader: TreeReader) -> StoreCheck:
        """Check the store's own files, read again from *reader*; the layers' content is left to the caller."""

    def list(self, reader: TreeReader) -> StoreListing:
        """Everything in the store for display, configs and containers read again from *reader*."""

    def dump(self) -> bytes:
        """All of it as one JSON object, for :func:`drypoint.stores.load_store`; the same store gives the same bytes."""


class Store(Protocol):
    """A store of one kind at one place of a tree, whether or not anything is there yet."""

    @property
    def root(self) -> bytes:
        """The directory that contains all of it, a clean path."""

    @property
    def names_path(self) -> bytes:
        """The file that gives images their names."""

    def read(self, reader: TreeReader) -> ReadStore:
        """Read what is there. Nothing at *root*, or an empty directory, is an empty store.

        Raises:
            StoreError: *root* or a parent of it is not a directory, or it holds more than anything real does.
        """

    def unread(self) -> ReadStore:
        """The same as :meth:`read` of an empty store, for a tree that cannot be read."""

    def layer_roots(self, reader: TreeReader) -> Iterator[bytes]:
        """The directories with the files of layers, uppermost first. Nothing else of the store is read.

        Raises:
            FilesystemError: the tree cannot be read, or has more layers than anything real.
        """

    @property
    def merge_limit(self) -> int:
        """Maximum size in bytes of a merged file."""

    def merge(self, present: bytes, added: bytes) -> bytes:
        """Merge two contents of a file of :attr:`StorePlan.merged_paths`; *present* is empty if there is none yet.

        Raises:
            StoreError: one is malformed, or they contradict each other.
        """
