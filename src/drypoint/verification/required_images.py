"""The images that the device will ask the engine for. The caller knows which files name them and how they are looked up."""

from __future__ import annotations

from typing import Protocol

import msgspec

from ..digest import Digest
from ..disk import Device
from ..fstree import TreeReader
from ..stores import Names
from .finding import Finding


class RequiredImage(msgspec.Struct, frozen=True):
    """An image that a service will ask for.

    Attributes:
        service: names of the app and the service.
        reference: the image's name, as the service gives it.
        image_id: the image that the lookup finds in this store, or None.
    """

    service: str
    reference: str
    image_id: Digest | None


class RequiredImages(msgspec.Struct, frozen=True):
    """All images that will be asked for, and the faults of the file that names them.

    It is all or nothing: all images are looked up first, and the first that is missing ends the lookup.

    Attributes:
        path: that file, in the tree that was read; empty if it is elsewhere.
    """

    path: bytes = b""
    images: tuple[RequiredImage, ...] = ()
    findings: tuple[Finding, ...] = ()


class RequiredImagesReader(Protocol):
    """Reads the required images from the tree, and looks them up in the store's names."""

    def on(self, device: Device, /) -> RequiredImagesReader:
        """The same, for the disk image *device*, whose other partitions may have more information.

        Raises:
            DiskImageError: its partition table is damaged.
        """
        ...

    def __call__(self, tree: TreeReader, names: Names, /) -> RequiredImages:
        """The images that the device will ask for.

        Raises:
            FilesystemError: the tree cannot be read.
        """
        ...
