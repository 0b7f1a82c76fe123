"""An answer of a server: its header is there, its body is still to be read."""

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
    """A response with its body still to be read, and where it came from in the end.

    Attributes:
        foreign: whether it comes from another origin than the one asked first.
        until: when an answer that is read whole has to be complete, on the clock of :func:`time.monotonic`.
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
        """Where the server is that gave it."""
        return zone_from(self.response)

    @property
    def has_end(self) -> bool:
        """Whether its header says where the body ends; otherwise the body ends with the connection."""
        return self.header("Content-Length") is not None or self.header("Transfer-Encoding") is not None

    def header(self, name: str) -> str | None:
        return self.response.headers.get(name)

    def headers(self, name: str) -> list[str]:
        return list(self.response.headers.getlist(name))

    def close(self) -> None:
        """Let go of the connection; it is used again only if the body was read to its end."""
        self.response.close()
        self.response.release_conn()

    def discard(self) -> None:
        """Read past a short body that is not needed, so that the connection can be reused."""
        try:
            self.read_all(_DISCARDED_BYTES, _DISCARD_SECONDS)
        except (TransientError, TransferError):
            # Not worth reading to its end: closing ends the connection instead.
            self.response.close()
        self.close()

    def read_some(self, until: float = float("inf")) -> bytes:
        """The bytes that are there, up to 1 MiB; empty at the end. What frames the body, such as the sizes of chunks and what
        follows the last one, is none of it: it may take as long as a connection may stall.

        Args:
            until: when it has to be done, on the clock of :func:`time.monotonic`.

        Raises:
            TransientError: the connection broke, stalled, or ended before Content-Length.
        """
        soon = min(until, time.monotonic() + self.patience)
        try:
            # read1 gives what has come: nothing that came before a break is lost, as it would be in one large read.
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
            seconds: for the body alone. The whole answer, from the request on, has ``request_timeout`` in any case.

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
        """*content*, decompressed if the server compressed it unasked."""
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
