"""Verification of a stream's digest and size as it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ..digest import Digest
from ..errors import ContentError, DigestMismatchError


def verified(chunks: Iterator[bytes], digest: Digest, what: str, size: int | None = None) -> Iterator[bytes]:
    """Pass *chunks* on, and raise at the end unless all of them together hash to *digest*.

    Args:
        what: how errors name the content.
        size: how many bytes there must be; no byte beyond is passed on.

    Raises:
        ContentError: more or fewer than *size* bytes came.
        DigestMismatchError: the bytes have another digest.
    """
    sha256 = hashlib.sha256()
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if size is not None and count > size:
            raise ContentError(
                f"{what}: more than the {size} bytes announced for {digest} were received; none of it can be trusted"
            )
        sha256.update(chunk)
        yield chunk
    if size is not None and count != size:
        raise ContentError(f"{what}: {size} bytes are announced for {digest}, but only {count} were received")
    found = f"sha256:{sha256.hexdigest()}"
    if found != digest:
        raise DigestMismatchError(
            f"{what}: expected content with digest {digest}, but what was received hashes to {found}; it is damaged or replaced"
        )
