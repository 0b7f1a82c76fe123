"""A body of known length as one stream that resumes after broken connections.

Protocol: RFC 9110, section 14 (Range). Servers answer ranges differently: some with the whole body, as 200 or as 206, with 206
and no Content-Range, in multipart/byteranges, or with an error. An answer that is not clearly the range is not used: the body
is then requested from its start, and what was passed on before is skipped.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ContentError
from .retry import Patience, TransientError

if TYPE_CHECKING:
    from .answer import Answer

CHUNK_BYTES = 1 << 20
ODD_STATUSES = frozenset((400, 405, 406, 411, 412, 413, 416, 417, 422, 501))
"""Statuses of servers that do not support a range; an opener returns such answers to a range request."""
_PROGRESS_BYTES = 64 << 10
"""Bytes that count as progress: a transfer with less in a row of attempts, or in a minute, fails."""
SLOWEST_SECONDS = 60.0
"""A transfer without progress for longer fails."""
_SKIPPED_FOR_PROGRESS = 8
"""If the body repeatedly comes from its start, each attempt must progress by this fraction of what it skips, so that all
attempts together transfer only a few times the body's length."""
_FAILURES_OF_RANGES = 2
"""After so many server failures in a row, such as status 500, the range itself may be the cause."""
_MAX_DIGITS = 19
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d{1,19})")


class RangeError(TransientError):
    """The server did not answer with the requested range."""


@dataclass(frozen=True, slots=True)
class Body:
    """The body to fetch.

    Attributes:
        where: host and path, for messages.
        size: bytes of the whole body.
        what: its name in messages, such as the blob.
        says: the source of *size*, as a clause for messages.
        vouched: whether the reader checks a digest. If not, skipped bytes are compared with those passed on before.
    """

    where: str
    size: int
    what: str
    says: str
    vouched: bool


def transfer(body: Body, open_at: Callable[[int, bool], Answer], patience: Patience) -> Iterator[bytes]:
    """The ``body.size`` bytes of *body* in chunks of about 1 MiB.

    Args:
        open_at: requests the bytes from an offset on, as a range or, if the second argument is False, the whole body.
            Returns an answer with status 200, for a range also 206 or one of ODD_STATUSES. Raises TransientError if a retry
            may help.

    Raises:
        SourceError: the bytes are not available.
        ContentError: there are more or fewer than ``body.size``, or the body changed between two attempts.
    """
    offset = milestone = 0
    ranges, failures = True, 0
    passed = hashlib.sha256()
    while True:
        skipped, start, ranged = 0, offset, ranges and offset > 0
        try:
            with closing(open_at(offset, ranged)) as answer:
                failures = 0
                skipped, end = _extent(answer, offset, body, ranged=ranged)
                pieces = _chunks(answer, end - offset + skipped)
                if skipped:
                    pieces = _after(pieces, skipped, None if body.vouched else passed.digest(), body)
                for chunk in pieces:
                    if offset + len(chunk) > end:
                        raise ContentError(
                            f"{body.where}: {body.what} has more than the {body.size} bytes that {body.says}"
                        )
                    offset += len(chunk)
                    if not body.vouched:
                        passed.update(chunk)
                    yield chunk
        except TransientError as failure:
            if offset == body.size and offset > milestone:
                # The body is complete; only the end of the message was lost.
                return
            failures += ranged and failure.status is not None
            ranges = ranges and not isinstance(failure, RangeError) and failures < _FAILURES_OF_RANGES
            if offset - milestone >= max(_PROGRESS_BYTES, skipped // _SKIPPED_FOR_PROGRESS):
                patience.progress()
                milestone = offset
            patience.failed(failure, f"{offset} of {body.size} bytes received")
        else:
            if offset == body.size:
                return
            # The server sent less than requested: continue if there was enough progress.
            if offset - start < _PROGRESS_BYTES:
                patience.failed(
                    TransientError("the server sends too little at a time"), f"{offset} of {body.size} bytes received"
                )
            patience.progress()
            milestone = offset


def _extent(answer: Answer, offset: int, body: Body, *, ranged: bool) -> tuple[int, int]:
    """The number of bytes of *answer* before *offset*, and its end in the body."""
    content_range = answer.header("Content-Range") or ""
    length = answer.header("Content-Length") or ""
    if answer.status == 206:
        said = _CONTENT_RANGE.fullmatch(content_range)
        if said is None:
            raise RangeError("the server sent a part without Content-Range")
        if said[3] != "*":
            _check_size(said[3], body)
        first, end = int(said[1]), int(said[2]) + 1
        if not first <= offset < end <= body.size or (length.isdecimal() and length != str(end - first)):
            raise RangeError(f"the server sent another range than the bytes from {offset} on")
        return offset - first, end
    if answer.status != 200:
        unsatisfied = _UNSATISFIED_RANGE.fullmatch(content_range)
        if answer.status == 416 and unsatisfied is not None:
            _check_size(unsatisfied[1], body)
        raise RangeError(f"the server answers status {answer.status} to the range from byte {offset} on")
    # The server does not support ranges, or none was requested.
    if length.isascii() and length.isdecimal():
        if ranged and length != str(body.size):
            raise RangeError(f"the server answers with {length[:_MAX_DIGITS]} bytes to the range from byte {offset} on")
        _check_size(length, body)
    return offset, body.size


def _after(pieces: Iterator[bytes], skip: int, digest: bytes | None, body: Body) -> Iterator[bytes]:
    """*pieces* without their first *skip* bytes, whose digest must be *digest* if that is given."""
    skipped = hashlib.sha256()
    for piece in pieces:
        if not skip:
            yield piece
            continue
        before, piece = piece[:skip], piece[skip:]
        skip -= len(before)
        if digest is not None:
            skipped.update(before)
        if not skip and digest is not None and skipped.digest() != digest:
            raise ContentError(f"{body.where}: {body.what} changed during the download; run the same again")
        if piece:
            yield piece


def _chunks(answer: Answer, size: int) -> Iterator[bytes]:
    """The body of *answer*, *size* bytes or more, in chunks of about 1 MiB; received bytes come before an error is raised."""
    left = size
    gathered: list[bytes] = []
    gathered_bytes = 0
    window_bytes, window_start = 0, time.monotonic()
    try:
        while piece := answer.read_some():
            window_bytes += len(piece)
            now = time.monotonic()
            if now - window_start > SLOWEST_SECONDS:
                if window_bytes < _PROGRESS_BYTES:
                    raise TransientError(f"only {window_bytes} bytes came in {SLOWEST_SECONDS:g} seconds")
                window_bytes, window_start = 0, now
            left -= len(piece)
            gathered.append(piece)
            gathered_bytes += len(piece)
            if left < 0:
                break
            if gathered_bytes >= CHUNK_BYTES:
                yield b"".join(gathered)
                gathered, gathered_bytes = [], 0
                # The caller's time does not count for the connection.
                window_bytes, window_start = 0, time.monotonic()
        if left > 0:
            raise TransientError("the connection ended early")
    except TransientError:
        if gathered_bytes:
            yield b"".join(gathered)
        raise
    if gathered_bytes:
        yield b"".join(gathered)


def _check_size(said: str, body: Body) -> None:
    # A header may hold more digits than Python converts.
    if len(said) > _MAX_DIGITS or int(said) != body.size:
        raise ContentError(f"{body.where}: {body.what} has {said[:_MAX_DIGITS]} bytes, but {body.says} {body.size}")
