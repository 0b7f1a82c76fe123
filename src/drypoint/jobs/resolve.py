"""Resolving the requested images at their sources, several at once."""

from __future__ import annotations

from collections.abc import Sequence

from ..concurrency.pool import ordered_map
from ..concurrency.tasks import FAREWELL_SECONDS
from ..oci import Image, Platform
from .request import ImageRequest

_AT_ONCE = 4


def resolve_all(requests: Sequence[ImageRequest], platform: Platform) -> list[Image]:
    """The images of *requests*, in their order.

    An interrupt or the first failure ends it within a second, even if a registry is slow to answer for other images.

    Raises:
        SourceError, ContentError: an image is not available, or is damaged or malformed.
    """

    def resolve(request: ImageRequest) -> Image:
        return request.source.resolve(request.reference, platform)

    return list(ordered_map(resolve, requests, _AT_ONCE, "resolve", patience=FAREWELL_SECONDS))
