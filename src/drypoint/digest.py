"""Content digests, ``sha256:<64 lower-case hex digits>``.

Format: OCI image-spec, descriptor.md, "Digests". Only sha256 is supported: it is the key of the engine's store.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from .errors import ContentError

Digest = NewType("Digest", str)
"""A checked digest, ``sha256:<hex>``."""

_PATTERN = re.compile(r"sha256:[a-f0-9]{64}")
_PREFIX_LENGTH = len("sha256:")


def parse_digest(text: str) -> Digest:
    """*text*, checked to be a sha256 digest.

    Raises:
        ContentError: it is not one.
    """
    if _PATTERN.fullmatch(text) is None:
        shown = text if len(text) <= 100 else text[:100] + "…"
        raise ContentError(f"{shown!r} is not a digest: expected sha256: and 64 lower-case hexadecimal digits")
    return Digest(text)


def digest_of(content: bytes | memoryview) -> Digest:
    """The sha256 digest of *content*."""
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


def hex_of(digest: Digest) -> str:
    """The 64 hexadecimal digits of *digest*, as in the store's file names."""
    return digest[_PREFIX_LENGTH:]
