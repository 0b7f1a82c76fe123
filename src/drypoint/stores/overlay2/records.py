"""Reading the distribution records of a store."""

from __future__ import annotations

from ...digest import Digest, parse_digest
from ...errors import ContentError, StoreError
from . import paths as layout
from .distribution import V2Metadata, parse_metadata
from .identity import CACHE_ID
from .reading import StoreReader


def read_records(store: StoreReader) -> tuple[dict[Digest, Digest], dict[Digest, tuple[V2Metadata, ...]]]:
    """The diff-id of each recorded blob, and the blobs of each recorded diff-id; a damaged record is empty."""
    diff_ids: dict[Digest, Digest] = {}
    for name, _ in store.names(layout.DIFF_ID_BY_DIGEST):
        path = layout.DIFF_ID_BY_DIGEST + b"/" + name.encode("ascii")
        if CACHE_ID.fullmatch(name) is None:
            store.report("unknown-name", path, "expected the hexadecimal digits of a digest")
            continue
        text = store.text(path)
        try:
            diff_ids[Digest(f"sha256:{name}")] = parse_digest(text or "")
        except ContentError as error:
            diff_ids[Digest(f"sha256:{name}")] = Digest("")
            store.report("bad-content", path, str(error))
    origins: dict[Digest, tuple[V2Metadata, ...]] = {}
    for name, _ in store.names(layout.METADATA_BY_DIFF_ID):
        path = layout.METADATA_BY_DIFF_ID + b"/" + name.encode("ascii")
        if CACHE_ID.fullmatch(name) is None:
            store.report("unknown-name", path, "expected the hexadecimal digits of a digest")
            continue
        origins[Digest(f"sha256:{name}")] = _metadata(store, path)
    return diff_ids, origins


def _metadata(store: StoreReader, path: bytes) -> tuple[V2Metadata, ...]:
    content = store.content(path)
    if content is None:
        return ()
    try:
        return parse_metadata(content)
    except StoreError as error:
        store.report("unreadable-json", path, str(error))
        return ()
