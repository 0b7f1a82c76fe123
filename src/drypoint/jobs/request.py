"""The request for a preload as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from ..errors import UsageError
from ..fstree import TreeReader
from ..fstree.extra_file import ExtraFile
from ..limits import DEFAULT_LIMITS, Limits
from ..oci import Image, Platform, Reference
from ..sizing.layer_index import LayerIndex
from ..sources import ImageSource
from ..verification import RequiredImagesReader
from ..volumes.fat_files import FatFile
from ..volumes.target import Target

FindReplaced: TypeAlias = Callable[[TreeReader], Sequence[Reference]]
"""Finds the images to replace in the partition's tree, such as :func:`drypoint.previous_images`."""

CheckImages: TypeAlias = Callable[[Sequence[Image]], None]
"""Checks the resolved images before any layer is fetched, and raises an error to refuse them."""


class ImageRequest(msgspec.Struct, frozen=True):
    """A requested image, and its source.

    Attributes:
        tags: additional names, as by ``docker tag``; each has a tag and no digest.
    """

    reference: Reference
    source: ImageSource
    tags: tuple[Reference, ...] = ()


class PreloadRequest(msgspec.Struct, frozen=True):
    """The request for :func:`~drypoint.preload`, which writes it to a disk image, :func:`~drypoint.plan`, which reports the
    result, and :func:`~drypoint.pack`, which writes it to an archive.

    Attributes:
        images: the images to preload, each with its source.
        platform: chooses the image of a multi-platform image.
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
        required_images: the images that the device will ask for; verification looks them up in the store.
        limits: the largest layers that are accepted.

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
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.container_files and self.target.container is None:
            raise UsageError(
                "there are files for the partition that holds the inner disk image, but the target names none"
            )
