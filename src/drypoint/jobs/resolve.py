"""What the wanted images are, asked of their sources, a few at once."""

from __future__ import annotations

from collections.abc import Sequence

from ..concurrency.pool import ordered_map
from ..concurrency.tasks import FAREWELL_SECONDS
from ..oci import Image, Platform
from .request import ImageRequest

_AT_ONCE = 4


def resolve_all(requests: Sequence[ImageRequest], platform: Platform) -> list[Image]:
    """The image of each of *requests*, in their order.

    An interrupt or the first failure ends it within a second, however slow a registry is to answer about the other images.

    Raises:
        SourceError, ContentError: an image cannot be had, or is not what it claims to be.
    """

    def resolve(request: ImageRequest) -> Image:
        return request.source.resolve(request.reference, platform)

    return list(ordered_map(resolve, requests, _AT_ONCE, "resolve", patience=FAREWELL_SECONDS))
