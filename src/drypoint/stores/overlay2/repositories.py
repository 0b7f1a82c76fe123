"""repositories.json, which maps references to images.

Format: moby, reference/store.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ...digest import Digest
from ...errors import StoreError
from ...go_json import JsonError, decode_go
from ...oci import Image, Reference
from ..contents import Names
from . import gojson

MAX_REPOSITORIES_BYTES = 16 << 20


class _Raw(msgspec.Struct, rename={"repositories": "Repositories"}):
    repositories: dict[str, dict[str, str] | None] | None = None


def parse_repositories(content: bytes) -> Names:
    """Read repositories.json.

    Raises:
        StoreError: it is malformed; the engine does not start with such a file.
    """
    try:
        raw = decode_go(content, _Raw, first=True)
    except JsonError as error:
        raise StoreError(f"repositories.json is not well formed: {error}") from error
    return {name: dict(references or {}) for name, references in (raw.repositories or {}).items()}


def merge_repositories(known: Names, images: Iterable[Image], usable: Mapping[Digest, bool]) -> Names:
    """*known* with the references of *images* added; no other entry is dropped.

    A tag of another image moves, as on a pull. A digest cannot: the engine refuses to change the image of a digest.

    Args:
        usable: the image ids in the store, and whether the engine can load each. The digest of an image that it cannot load may
            change.

    Raises:
        StoreError: a digest is that of another image already, or two images have the same reference.
    """
    merged = {name: dict(references) for name, references in known.items()}
    wanted: dict[str, Digest] = {}
    for image in images:
        for reference in (*image.references, *image.tags):
            text = reference.familiar
            if wanted.setdefault(text, image.image_id) != image.image_id:
                raise StoreError(
                    f"{text} is the name of two different images, {wanted[text]} and {image.image_id}: "
                    "give one of them another tag"
                )
            references = merged.setdefault(reference.familiar_name, {})
            _check_digest(reference, references.get(text), image.image_id, usable)
            references[text] = image.image_id
    return merged


def repositories_text(repositories: Names) -> bytes:
    """The content of repositories.json, as the engine writes it."""
    return gojson.marshal({"Repositories": repositories})


def _check_digest(reference: Reference, old: str | None, new: Digest, usable: Mapping[Digest, bool]) -> None:
    if reference.digest is None or old is None or old == new:
        return
    if any(known and image_id == old for image_id, known in usable.items()):
        raise StoreError(
            f"{reference.familiar} is the image {old} in the store, and would become {new}: the engine cannot change the image "
            "of a digest. The store has it for another platform; choose the same one, or remove that image"
        )


def merge_repositories_files(present: bytes, added: bytes) -> bytes:
    """Merge two repositories.json into one; a tag that both have moves, as on a pull.

    Raises:
        StoreError: one is malformed, or they have different images for one digest.
    """
    merged = {name: dict(references) for name, references in parse_repositories(present or b"{}").items()}
    for name, references in parse_repositories(added).items():
        known = merged.setdefault(name, {})
        for reference, image_id in references.items():
            if "@" in reference and known.get(reference, image_id) != image_id:
                raise StoreError(
                    f"{reference} is the image {known[reference]} in the store, and would become {image_id}: the engine "
                    "cannot change the image of a digest"
                )
            known[reference] = image_id
    return repositories_text(merged)
