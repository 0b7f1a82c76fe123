"""A server's answer, whose body has not been read yet."""

from __future__ import annotations

import time
import zlib
from functools import partial

import msgspec
import urllib3
from urllib3 import exceptions

from ..concurrency.tasks import current
from ..errors import TransferError
from .address import shown
from .connections import hang_up, read_by, zone_from
from .failures import reason_of
from .retry import TransientError
from .zones import Zone

_READ_SIZE = 1 << 20
_DISCARDED_BYTES = 64 << 10
_DISCARD_SECONDS = 5.0
_GZIP = b"\x1f\x8b\x08"


class Answer(msgspec.Struct, frozen=True):
    """A response whose body has not been read yet, and its final URL.

    Attributes:
        foreign: whether it is from another origin than that of the first request.
        until: deadline for :meth:`read_all`, a time of :func:`time.monotonic`.
        patience: seconds for the next bytes of the body.
        authorization: the Authorization header sent to that origin.
    """

    response: urllib3.BaseHTTPResponse
    url: str
    foreign: bool
    until: float = float("inf")
    patience: float = float("inf")
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"<answer {self.status} of {shown(self.url)}>"

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def zone(self) -> Zone:
        """The zone of the server."""
        return zone_from(self.response)

    @property
    def has_end(self) -> bool:
        """Whether the header gives the end of the body; otherwise the body ends with the connection."""
        return self.header("Content-Length") is not None or self.header("Transfer-Encoding") is not None

    def header(self, name: str) -> str | None:
        return self.response.headers.get(name)

    def headers(self, name: str) -> list[str]:
        return list(self.response.headers.getlist(name))

    def close(self) -> None:
        """Release the connection; it is only reused if the body was read to its end."""
        self.response.close()
        self.response.release_conn()

    def discard(self) -> None:
        """Read and drop a short body, so that the connection can be reused."""
        try:
            self.read_all(_DISCARDED_BYTES, _DISCARD_SECONDS)
        except (TransientError, TransferError):
            # Too long to read: end the connection.
            self.response.close()
        self.close()

    def read_some(self, until: float = float("inf")) -> bytes:
        """The available bytes, up to 1 MiB; empty at the end. The framing of the body, such as the sizes of chunks and the
        trailer, does not count as bytes: it may take as long as a connection may stall.

        Args:
            until: a deadline, a time of :func:`time.monotonic`.

        Raises:
            TransientError: the connection broke, stalled, or ended before Content-Length.
        """
        soon = min(until, time.monotonic() + self.patience)
        try:
            # read1 returns what has come: with one large read, the bytes before a broken connection would be lost.
            with current().waker(partial(hang_up, self.response)), read_by(self.response, soon):
                return self.response.read1(_READ_SIZE, decode_content=False) or b""
        except (exceptions.HTTPError, OSError) as error:
            current().check()
            if time.monotonic() >= until:
                raise TransientError("the answer was not complete in time") from error
            raise TransientError(reason_of(error)) from error

    def read_all(self, limit: int, seconds: float = float("inf")) -> bytes:
        """The whole body.

        Args:
            seconds: timeout for the body alone; for the whole answer, from the request on, it is ``request_timeout``.

        Raises:
            TransientError: the connection broke, or it took too long.
            TransferError: it is longer than *limit* bytes.
        """
        until = min(self.until, time.monotonic() + seconds)
        pieces, size = [], 0
        while piece := self.read_some(until):
            size += len(piece)
            if size > limit:
                raise TransferError(f"{shown(self.url)}: the answer has more than the {limit} bytes allowed")
            pieces.append(piece)
        return self._decoded(b"".join(pieces), limit)

    def _decoded(self, content: bytes, limit: int) -> bytes:
        """*content*, decompressed if the server compressed it without a request to do so."""
        encoding = (self.header("Content-Encoding") or "").strip().lower()
        if encoding not in ("gzip", "x-gzip") or self.status == 206 or not content.startswith(_GZIP):
            return content
        decoder = zlib.decompressobj(wbits=31)
        try:
            plain = decoder.decompress(content, limit + 1)
        except zlib.error:
            return content
        if len(plain) > limit:
            raise TransferError(f"{shown(self.url)}: the answer has more than the {limit} bytes allowed")
        if not decoder.eof:
            raise TransientError("the connection ended early")
        return plain
