"""A blob's bytes as one stream, whatever happens to the connections that bring them.

Protocol: RFC 9110, section 14 (Range); OCI distribution-spec 1.1, "Pulling blobs".
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from ...errors import ContentError
from ...oci import Descriptor
from .retry import TransientError

if TYPE_CHECKING:
    from .client import RegistryClient
    from .transport import Answer

CHUNK_BYTES = 1 << 20
_PROGRESS_BYTES = 64 << 10
"""What counts as progress. Less than this in a row of tries, or in a minute, is a transfer that goes nowhere."""
_SLOWEST_SECONDS = 60.0
_PART_ATTEMPTS = 3
_PART_SECONDS = 10.0
"""A part is only a hint: not worth waiting for as long as for a blob."""
_MAX_DIGITS = 19
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d{1,19})")


def read_blob(client: RegistryClient, repository: str, blob: Descriptor) -> Iterator[bytes]:
    """The bytes of *blob* in chunks of about 1 MiB, ``blob.size`` of them in all; their digest is the caller's to check.

    A connection that breaks, stalls or ends early is replaced: the registry is asked anew, since the signed addresses that it
    redirects to lapse, for the bytes from where the last connection ended.

    Raises:
        SourceError: the bytes cannot be had.
        ContentError: there are more or fewer of them than ``blob.size``.
    """
    where = f"{client.domain}/v2/{repository}/blobs/{blob.digest}"
    patience = client.patience(where)
    offset = milestone = 0
    while True:
        try:
            with closing(client.open_blob(repository, blob.digest, offset)) as answer:
                for chunk in _chunks(answer, offset, blob.size, where):
                    offset += len(chunk)
                    yield chunk
        except TransientError as failure:
            if offset == blob.size and offset > milestone:
                # Only the end of the message was lost.
                return
            if offset - milestone >= _PROGRESS_BYTES:
                patience.progress()
                milestone = offset
            patience.failed(failure, f"{offset} of {blob.size} bytes received")
        else:
            return


def read_part(client: RegistryClient, repository: str, blob: Descriptor, offset: int, size: int) -> bytes | None:
    """The *size* bytes of *blob* from *offset* on, few of them; None where the server gives no parts of blobs.

    Raises:
        SourceError: they cannot be had.
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


def _chunks(answer: Answer, offset: int, size: int, where: str) -> Iterator[bytes]:
    """What *answer* brings beyond *offset*, gathered to chunks; all that came is given before an error is raised."""
    skip = _bytes_to_skip(answer, offset, size, where)
    left = size - offset
    gathered: list[bytes] = []
    gathered_bytes = 0
    window_bytes, window_start = 0, time.monotonic()
    try:
        while piece := answer.read_some():
            window_bytes += len(piece)
            now = time.monotonic()
            if now - window_start > _SLOWEST_SECONDS:
                if window_bytes < _PROGRESS_BYTES:
                    raise TransientError(f"only {window_bytes} bytes came in {_SLOWEST_SECONDS:g} seconds")
                window_bytes, window_start = 0, now
            if skip:
                dropped = min(skip, len(piece))
                skip -= dropped
                piece = piece[dropped:]
            if len(piece) > left:
                raise ContentError(f"{where}: the blob has more than the {size} bytes that its descriptor says")
            left -= len(piece)
            gathered.append(piece)
            gathered_bytes += len(piece)
            if gathered_bytes >= CHUNK_BYTES:
                yield b"".join(gathered)
                gathered, gathered_bytes = [], 0
                # How long the caller took for it is not the connection's fault.
                window_bytes, window_start = 0, time.monotonic()
        if left or skip:
            raise TransientError("the connection ended early")
    except TransientError:
        if gathered_bytes:
            yield b"".join(gathered)
        raise
    if gathered_bytes:
        yield b"".join(gathered)


def _bytes_to_skip(answer: Answer, offset: int, size: int, where: str) -> int:
    """How many bytes of *answer* the caller has already."""
    if answer.status == 416:
        told = _UNSATISFIED_RANGE.fullmatch(answer.header("Content-Range") or "")
        if told is not None:
            _check_size(told[1], size, where)
        raise TransientError(f"the server has no bytes from {offset} on")
    if answer.status == 206:
        told = _CONTENT_RANGE.fullmatch(answer.header("Content-Range") or "")
        if told is None or int(told[1]) != offset:
            raise TransientError(f"the server sent another range than the bytes from {offset} on")
        if told[3] != "*":
            _check_size(told[3], size, where)
        return 0
    # The server does not know ranges, and begins anew.
    length = answer.header("Content-Length")
    if length is not None and length.isdecimal():
        _check_size(length, size, where)
    return offset


def _check_size(told: str, size: int, where: str) -> None:
    # A header can hold more digits than Python converts.
    if len(told) > _MAX_DIGITS or int(told) != size:
        raise ContentError(f"{where}: the blob has {told[:_MAX_DIGITS]} bytes, but its descriptor says {size}")
