"""What a preload is asked to do, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class ImageRequest(msgspec.Struct, frozen=True):
    """An image that is wanted, and the source that has it.

    Attributes:
        tags: names that it gets besides, as by ``docker tag``; each has a tag and no digest.
    """

    reference: Reference
    source: ImageSource
    tags: tuple[Reference, ...] = ()
