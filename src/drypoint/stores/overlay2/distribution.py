"""What the engine remembers of where layers came from, so that a later pull or push need not send them again.

Format: moby, distribution/metadata/v2_metadata_service.go.
"""

from __future__ import annotations

import msgspec

from ...digest import Digest
from ...errors import StoreError
from ...go_json import JsonError, decode_go
from . import gojson

MAX_RECORDS = 50
"""How many records the engine keeps for one diff-id; the oldest go."""


class V2Metadata(msgspec.Struct, frozen=True):
    """That *source_repository* (``docker.io/library/alpine``) holds a layer as the blob *digest*.

    ``hmac`` is filled by the engine on a push with credentials, and never on a pull.
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
    """*known* with *new* as its youngest record, as a pull leaves it: once, at the end, and not too many in all."""
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
