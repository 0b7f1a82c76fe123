"""The result of checking a store's own files, and the layers whose content is still to be verified."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from ..digest import Digest
from ..fstree import Content, TreeSink
from ..layers.change import Change
from .contents import StoreFinding
from .planned import AppliedLayer


class KeptLayer(Protocol):
    """A layer whose tar can be rebuilt from the store, to be verified; it can be pickled. Paths are the tree's."""

    @property
    def chain_id(self) -> Digest: ...

    @property
    def diff_id(self) -> Digest: ...

    @property
    def size(self) -> int | None:
        """The size of its files in bytes, as recorded in the store."""

    @property
    def files(self) -> bytes:
        """The directory that it was unpacked to."""

    @property
    def tar_split(self) -> bytes: ...

    @property
    def size_file(self) -> bytes:
        """The file that holds *size*."""

    def unpack(self, changes: Iterable[tuple[Change, Content | None]], sink: TreeSink, timestamp: int) -> AppliedLayer:
        """Apply *changes*, in order, to the root of *sink* as the engine does.

        Args:
            timestamp: mtime, in nanoseconds since the epoch, of files to which the engine gives the time of unpacking.

        Raises:
            LayerError: an entry that the engine refuses.
        """


class StoreCheck(msgspec.Struct, frozen=True):
    """Findings about the store's own files, and its layers, whose content is not verified yet."""

    findings: tuple[StoreFinding, ...]
    layers: tuple[KeptLayer, ...]
