"""The interface of stores, which every kind implements.

Reading returns a value, planning is a pure function of values, and only writing changes a tree. Each kind has its own layout;
callers use only the values of :mod:`.contents` and :mod:`.planned`.
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
    """A layer as its tar is read: its changes, with content, and after the last one its tar-split.

    The iteration ends only if the layer has the right digests; otherwise it raises ContentError.
    """

    def __iter__(self) -> Iterator[tuple[Change, Content | None]]: ...

    @property
    def limits(self) -> Limits:
        """The largest layer that is accepted; the store refuses a larger one with LayerError."""
        ...

    @property
    def tar_split(self) -> TarSplitContent: ...


OpenLayer: TypeAlias = Callable[[PlannedLayer], AbstractContextManager[LayerStream]]
OnLayer: TypeAlias = Callable[[PlannedLayer, AppliedLayer], None]


class StorePlan(Protocol):
    """A plan for adding images to a store: everything that is to be written, as a value that can write itself."""

    @property
    def root(self) -> bytes:
        """The directory that contains the store. All paths are paths in the tree that contains it."""

    @property
    def removal(self) -> Removal:
        """What is removed before anything is written."""

    @property
    def directories(self) -> tuple[Directory, ...]:
        """The store's directories that are missing, parents first."""

    @property
    def layers(self) -> Sequence[PlannedLayer]:
        """The layers to write; a parent comes before its children, and each chain-id once."""

    @property
    def shared(self) -> tuple[SharedLayer, ...]:
        """Layers of the images that the store has already, which are not fetched."""

    @property
    def files(self) -> tuple[PlannedFile, ...]:
        """The small files that belong to no layer, in the order of writing."""

    @property
    def merged_paths(self) -> frozenset[bytes]:
        """The paths of *files* that other images need too: an existing file is merged, not replaced."""

    @property
    def known_images(self) -> tuple[Digest, ...]:
        """Ids of images that the store has and that the engine can load."""

    @property
    def orphans(self) -> Orphans:
        """What takes space afterwards and is used by no image."""

    @property
    def is_empty(self) -> bool:
        """Whether the store holds everything already."""

    @property
    def fetch_bytes(self) -> int:
        """How many bytes of blobs must be fetched, by the sizes in the manifests."""

    @property
    def shared_bytes(self) -> int:
        """How many bytes of blobs need not be fetched, because the store has those layers."""

    def space(self, block_size: int) -> StoreSpace:
        """The space that it takes in a file system with blocks of *block_size* bytes."""

    def own_paths(self) -> Iterator[bytes]:
        """Paths of all that is written, except merged files: where the store was not read, they replace what it has there."""

    def remove(self, sink: TreeSink) -> None:
        """Remove what the plan replaces. Called before :meth:`write`, and before space is made: what it frees is used."""

    def write(self, sink: TreeSink, open_layer: OpenLayer, on_layer: OnLayer | None = None) -> None:
        """Write all of it, one layer after the other. The caller finishes the sink.

        Args:
            open_layer: returns a context manager with the content of a layer; entered once for each, in the plan's order.
            on_layer: is called with each layer when it is written.

        Raises:
            ContentError: a layer is damaged or malformed.
            FilesystemError: the tree cannot hold an entry.
        """


class ReadStore(Protocol):
    """The value that a store is read as."""

    @property
    def contents(self) -> StoreContents: ...

    def plan(self, images: Sequence[Image], *, timestamp: int, replaced: Iterable[Reference] = ()) -> StorePlan:
        """Plan how *images* get into the store.

        Args:
            timestamp: nanoseconds since the epoch, for the mtimes of files that drypoint itself creates.
            replaced: names of images to remove, unless something else needs them.

        Raises:
            StoreError: the store cannot be added to, an image has more layers than the engine supports, or a reference cannot
                name its image.
            FilesystemError: something in the store cannot be read because its file system is damaged.
        """

    def config(self, reader: TreeReader, image_id: Digest) -> bytes | None:
        """The config of an image in the store, read again from *reader*; None if it cannot be read."""

    def check(self, reader: TreeReader) -> StoreCheck:
        """Check the store's own files, read again from *reader*; the layers' content is left to the caller."""

    def list(self, reader: TreeReader) -> StoreListing:
        """The listing of the store, configs and containers read again from *reader*."""

    def dump(self) -> bytes:
        """All of it as one JSON object, for :func:`drypoint.stores.load_store`; the same store gives the same bytes."""


class Store(Protocol):
    """A store of one kind at one path of a tree, which may still be empty or missing."""

    @property
    def root(self) -> bytes:
        """The directory that contains the store, a clean path."""

    @property
    def names_path(self) -> bytes:
        """The path of the file with the images' names."""

    def read(self, reader: TreeReader) -> ReadStore:
        """Read the store. Nothing at *root*, or an empty directory, is an empty store.

        Raises:
            StoreError: *root* or a parent of it is not a directory, or it holds more than any real store.
        """

    def unread(self) -> ReadStore:
        """The same as :meth:`read` of an empty store, for a tree that cannot be read."""

    def layer_roots(self, reader: TreeReader) -> Iterator[bytes]:
        """The directories with the files of layers, uppermost first. Nothing else of the store is read.

        Raises:
            FilesystemError: the tree cannot be read, or has more layers than any real store.
        """

    @property
    def merge_limit(self) -> int:
        """Maximum size in bytes of a merged file."""

    def merge(self, present: bytes, added: bytes) -> bytes:
        """Merge two contents of a file of :attr:`StorePlan.merged_paths`; *present* is empty if there is none yet.

        Raises:
            StoreError: one is malformed, or they contradict each other.
        """
