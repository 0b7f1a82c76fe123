"""The application images of an earlier release on the data partition, by its apps.json.

Only images that an apps.json on the partition names belong to a release, and may be replaced by a later one. All other images,
the Supervisor's first of all, stay.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..errors import InvalidReferenceError, StoreError
from ..fstree import Regular, TreeReader
from ..oci import Reference, parse_reference
from .apps_json import MAX_BYTES
from .identifiers import Json

_NAMES = (b"apps.json", b"apps.json.preloaded")
"""The file that a preload writes, and its name once the Supervisor has taken it."""


def previous_images(reader: TreeReader) -> tuple[Reference, ...]:
    """The distinct images that the apps.json files in the root of the data partition name; empty without such files.

    Versions 2 and 3 are read. Only the fields that lead to images are used.

    Raises:
        StoreError: a file is not JSON, or too large.
    """
    found: dict[Reference, None] = {}
    for name in _NAMES:
        stat = reader.lookup(name)
        if stat is None or not isinstance(stat.entry, Regular):
            continue
        shown = name.decode()
        if stat.entry.size > MAX_BYTES:
            raise StoreError(f"{shown} on the data partition has {stat.entry.size} bytes, more than {MAX_BYTES}")
        content = b"".join(bytes(chunk) for chunk in reader.read(stat))
        try:
            state: Json = msgspec.json.decode(content or b"{}")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise StoreError(
                f"{shown} on the data partition is not JSON, so the images to replace are unknown: "
                f"{error}. Preload without replacing"
            ) from error
        for image in _images(state):
            try:
                found[parse_reference(image)] = None
            except InvalidReferenceError:
                # Not a reference, so no engine can have pulled it.
                continue
    return tuple(found)


def _images(state: Json) -> Iterator[str]:
    for app in _values(state, "apps"):
        releases = [app, *_values(app, "releases")]
        for release in releases:
            for service in _values(release, "services"):
                image = service.get("image") if isinstance(service, dict) else None
                if isinstance(image, str):
                    yield image


def _values(owner: Json, key: str) -> list[Json]:
    """The values in the object or list *key* of *owner*."""
    value = owner.get(key) if isinstance(owner, dict) else None
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []
