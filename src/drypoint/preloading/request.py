"""What a preload is asked to do, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from ..fstree import TreeReader
from ..oci import Image, Reference
from ..sources import ImageSource

DEFAULT_PARTITION = "resin-data"

FindReplaced: TypeAlias = Callable[[TreeReader], Sequence[Reference]]
"""Tells from the partition's tree which images the ones to come replace; :func:`drypoint.previous_images` for one."""

CheckImages: TypeAlias = Callable[[Sequence[Image]], None]
"""Is given the images as they were found, before anything is fetched, and raises what is wrong with them."""


class Container(msgspec.Struct, frozen=True):
    """A file that is a disk image itself, in the ext4 file system of a partition, as in an installer's image.

    Attributes:
        partition: the outer disk image's partition, by file-system label, GPT name or number.
        path: the file, a clean path in that partition.
    """

    partition: str | int
    path: bytes


class Target(msgspec.Struct, frozen=True):
    """Where on the disk image the store lies; the default is balenaOS's.

    Attributes:
        partition: the partition's file-system label, GPT name or number.
        data_root: the engine's data root, a clean path in that partition; None for what the system on the disk image tells its
            engine, else ``docker``.
        container: the file that is the disk image which *partition* belongs to; None if that is the given one itself.
    """

    partition: str | int = DEFAULT_PARTITION
    data_root: bytes | None = None
    container: Container | None = None


class ImageRequest(msgspec.Struct, frozen=True):
    """An image that is wanted, and the source that has it.

    Attributes:
        tags: names that it gets besides, as by ``docker tag``; each has a tag and no digest.
    """

    reference: Reference
    source: ImageSource
    tags: tuple[Reference, ...] = ()


class ExtraFile(msgspec.Struct, frozen=True):
    """A small file that goes into the partition beside the store, owned by root; one that is there already is replaced.

    Attributes:
        path: clean path from the partition's root; its directory exists.
        content: all of it.
        mode: permission bits.
    """

    path: bytes
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class FatFile:
    """A small file that goes into a FAT partition of the disk image; one that is there already is replaced.

    Attributes:
        partition: the partition's number.
        path: from the file system's root, ``splash/balena-logo.png``; directories are made where missing.
        content: all of it.
    """

    partition: int
    path: str
    content: bytes = field(repr=False)
