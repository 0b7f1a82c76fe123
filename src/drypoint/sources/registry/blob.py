"""Reading blobs of a registry: whole, as a stream that resumes, and small parts of them.

Protocol: OCI distribution-spec 1.1, "Pulling blobs".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from ...http.retry import TransientError
from ...http.transfer import Body, transfer
from ...oci import Descriptor

if TYPE_CHECKING:
    from .client import RegistryClient

_PART_ATTEMPTS = 3
_PART_SECONDS = 10.0
"""Short, because a part is only a hint."""


def read_blob(client: RegistryClient, repository: str, blob: Descriptor) -> Iterator[bytes]:
    """The ``blob.size`` bytes of *blob* in chunks of about 1 MiB; the caller checks the digest.

    A connection that breaks, stalls or ends early is replaced. The registry itself is asked again, because the signed URLs
    that it redirects to expire, for the bytes from where the last connection ended.

    Raises:
        SourceError: the bytes are not available.
        ContentError: there are more or fewer than ``blob.size``.
    """
    where = f"{client.domain}/v2/{repository}/blobs/{blob.digest}"
    body = Body(where, blob.size, "the blob", "its descriptor says", vouched=True)
    return transfer(
        body,
        lambda offset, ranged: client.open_blob(repository, blob, offset if ranged else 0),
        client.patience(where),
    )


def read_part(client: RegistryClient, repository: str, blob: Descriptor, offset: int, size: int) -> bytes | None:
    """The *size* bytes of *blob* from *offset* on, a small number; None if the server does not support ranges.

    Raises:
        SourceError: they are not available.
    """
    patience = client.patience(f"{client.domain}/v2/{repository}/blobs/{blob.digest}", _PART_ATTEMPTS)
    while True:
        try:
            with closing(client.open_range(repository, blob.digest, offset, size)) as answer:
                expected = f"bytes {offset}-{offset + size - 1}/{blob.size}"
                if answer.status != 206 or answer.header("Content-Range") != expected:
                    return None
                content = answer.read_all(size, _PART_SECONDS)
                return content if len(content) == size else None
        except TransientError as failure:
            patience.failed(failure)
