"""What a preload is asked to do, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from ..errors import UsageError
from ..fstree import TreeReader
from ..fstree.extra_file import ExtraFile
from ..oci import Image, Platform, Reference
from ..sizing.layer_index import LayerIndex
from ..sources import ImageSource
from ..verification import RequiredImagesReader
from ..volumes.fat_files import FatFile
from ..volumes.target import Target

FindReplaced: TypeAlias = Callable[[TreeReader], Sequence[Reference]]
"""Tells from the partition's tree which images the ones to come replace; :func:`drypoint.previous_images` for one."""

CheckImages: TypeAlias = Callable[[Sequence[Image]], None]
"""Is given the images as they were found, before anything is fetched, and raises what is wrong with them."""


class ImageRequest(msgspec.Struct, frozen=True):
    """An image that is wanted, and the source that has it.

    Attributes:
        tags: names that it gets besides, as by ``docker tag``; each has a tag and no digest.
    """

    reference: Reference
    source: ImageSource
    tags: tuple[Reference, ...] = ()


class PreloadRequest(msgspec.Struct, frozen=True):
    """What is wanted on a disk image: :func:`~drypoint.preload` writes it, :func:`~drypoint.plan` says what that takes,
    :func:`~drypoint.pack` puts it into an archive.

    Attributes:
        images: the images to preload, each with the source that has it.
        platform: which image of a multi-platform image is taken.
        target: where the store is; default: ``docker/`` in the partition labelled resin-data.
        files: small files for the partition with the store, for example apps.json.
        container_files: small files for the partition that holds the target's container.
        fat_files: small files for FAT partitions, for example the boot partition.
        replaced: finds the names of images that *images* replace: those are removed, unless something else needs them. None
            keeps everything.
        additional_space: bytes that stay free in addition to what the images take.
        shrink_to_fit: whether the space that the growth of the partition left unused, beyond that, is given back.
        timestamp: seconds since the epoch, the time of everything that drypoint makes itself; default: the newest image's
            creation.
        index: the sizes of layers that were written before; layers written now are added to it. With it the partition grows
            by the size needed instead of by an estimate, so the output's bytes depend on its content.
        check_images: may refuse the images when their configs are known, before a layer is fetched.
        required_images: says which images the device will ask for; verification compares that with the store.

    Raises:
        UsageError: there are *container_files*, but *target* has no container.
    """

    images: Sequence[ImageRequest]
    platform: Platform
    target: Target = Target()
    files: Sequence[ExtraFile] = ()
    container_files: Sequence[ExtraFile] = ()
    fat_files: Sequence[FatFile] = ()
    replaced: FindReplaced | None = None
    additional_space: int = 0
    shrink_to_fit: bool = False
    timestamp: int | None = None
    index: LayerIndex | None = None
    check_images: CheckImages | None = None
    required_images: RequiredImagesReader | None = None

    def __post_init__(self) -> None:
        if self.container_files and self.target.container is None:
            raise UsageError(
                "there are files for the partition that holds the inner disk image, but the target names none"
            )
