"""Who on the device will ask the engine for images. What files say so, and how names are looked up, others know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from ..digest import Digest
from ..disk import Device
from ..fstree import TreeReader
from .finding import Finding


class Wish(msgspec.Struct, frozen=True):
    """An image that a service will ask for.

    Attributes:
        service: app and service, as people call them.
        reference: how it names the image.
        image_id: what its lookup gives in this store, None if nothing.
    """

    service: str
    reference: str
    image_id: Digest | None


class Demand(msgspec.Struct, frozen=True):
    """All that will be asked for, and what is wrong with the file that says so.

    It is fulfilled as a whole or not at all: whoever asks looks all images up first, and gives up with the first
    that is missing.

    Attributes:
        path: that file, in the tree that was read; empty if it lies elsewhere.
    """

    path: bytes = b""
    wishes: tuple[Wish, ...] = ()
    findings: tuple[Finding, ...] = ()


class DemandReader(Protocol):
    """Reads the demand from the partition's tree, and looks it up in repositories.json (name → reference → image id)."""

    def on(self, device: Device, /) -> DemandReader:
        """The same, for the disk image *device*, whose other partitions may say more.

        Raises:
            DiskImageError: its partition table is damaged.
        """
        ...

    def __call__(self, tree: TreeReader, repositories: Mapping[str, Mapping[str, str]], /) -> Demand:
        """The demand.

        Raises:
            FilesystemError: the tree cannot be read.
        """
        ...
