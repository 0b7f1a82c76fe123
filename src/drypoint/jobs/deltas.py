"""Refusing deltas of balenaEngine: in a registry they are images, but their layers are patches."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ManifestError
from ..oci import Image
from ..stores import StoreContents


def refuse_deltas(images: Iterable[Image], stored: StoreContents) -> None:
    """Refuse deltas among *images*.

    balenaEngine applies a delta to the base image when it pulls it; any other engine stores the patch as if it were the files.

    Args:
        stored: the store for the images, which may have the resulting image already.

    Raises:
        ManifestError: one of them is a delta.
    """
    for image in images:
        delta = image.config.delta
        if delta is None:
            continue
        name = image.references[0] if image.references else image.image_id
        base = f"the image {delta.base[:100]}" if delta.base else "a base image"
        made = f"{delta.target}" if delta.target else "another image"
        text = f"{name} is not an image but a delta of balenaEngine, which makes {made} of {base}"
        if delta.target in stored.images:
            names = [name for known in stored.names.values() for name, found in known.items() if found == delta.target]
            called = f" as {', '.join(sorted(names))}" if names else ""
            raise ManifestError(
                f"{text}. The store has {delta.target} already{called}: leave the delta out, or give that image's own name"
            )
        raise ManifestError(f"{text}. Give the image that it makes, by that image's own name")
