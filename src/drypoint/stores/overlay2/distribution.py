"""Distribution records: where layers came from, so that a later pull or push need not transfer them again.

Format: moby, distribution/metadata/v2_metadata_service.go.
"""

from __future__ import annotations

import msgspec

from ...digest import Digest
from ...errors import StoreError
from ...go_json import JsonError, decode_go
from . import gojson

MAX_RECORDS = 50
"""Most records that the engine keeps for one diff-id; it drops the oldest."""


class V2Metadata(msgspec.Struct, frozen=True):
    """A record that *source_repository* (``docker.io/library/alpine``) holds a layer as the blob *digest*.

    The engine sets ``hmac`` on a push with credentials, and never on a pull.
    """

    digest: str
    source_repository: str
    hmac: str = ""


class _Raw(msgspec.Struct, rename={"digest": "Digest", "source_repository": "SourceRepository", "hmac": "HMAC"}):
    digest: str = ""
    source_repository: str = ""
    hmac: str = ""


def parse_metadata(content: bytes) -> tuple[V2Metadata, ...]:
    """Read a file of ``v2metadata-by-diffid``.

    Raises:
        StoreError: it is malformed.
    """
    try:
        raw = decode_go(content, list[_Raw])
    except JsonError as error:
        raise StoreError(f"the records of a layer's origins are not well formed: {error}") from error
    return tuple(V2Metadata(one.digest, one.source_repository, one.hmac) for one in raw)


def add_metadata(known: tuple[V2Metadata, ...], new: V2Metadata) -> tuple[V2Metadata, ...]:
    """*known* after a pull that adds *new*: once, at the end, and at most :data:`MAX_RECORDS` in all."""
    return (*(one for one in known if one != new), new)[-MAX_RECORDS:]


def metadata_text(records: tuple[V2Metadata, ...]) -> bytes:
    """The content of a file of ``v2metadata-by-diffid``."""
    return gojson.marshal(
        [{"Digest": one.digest, "SourceRepository": one.source_repository, "HMAC": one.hmac} for one in records],
        sort_keys=False,
    )


def diff_id_text(diff_id: Digest) -> bytes:
    """The content of a file of ``diffid-by-digest``."""
    return diff_id.encode("ascii")
