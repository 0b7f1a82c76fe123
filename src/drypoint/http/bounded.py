"""Reading answers with an overall timeout: the timeout of a socket is for each read.

http.client takes the end of the connection for the end of the header (``_read_headers`` stops at an empty line), so that a
truncated header looks like a complete answer without a length: here it is an error. urllib3 only logs a malformed rest of a
header.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MAX_HEADER_BYTES = 1 << 20
"""The limit for all headers before a body, including those of answers like ``100 Continue``."""


class Waiting(threading.local):
    """The answer that this thread waits for: the deadline *until* of its header, and its stream."""

    until = float("inf")
    stream: BoundedStream


waiting = Waiting()


@contextlib.contextmanager
def answered_by(until: float) -> Iterator[None]:
    """Inside the block, requests of this thread raise TimeoutError if the header of their answer is not complete at *until*, a
    time of :func:`time.monotonic`; this includes answers of proxies before it."""
    waiting.until = until
    try:
        yield
    finally:
        waiting.until = float("inf")


class BoundedStream(io.RawIOBase):
    """A connection's bytes with a deadline, ``until``, for all reads together."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        self._raw = raw
        self._connection = connection
        self.until = waiting.until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self.until == float("inf"):
            return self._raw.readinto(buffer)
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the answer took too long")
        usual = self._connection.gettimeout()
        self._connection.settimeout(left if usual is None else min(left, usual))
        try:
            return self._raw.readinto(buffer)
        finally:
            with contextlib.suppress(OSError):
                self._connection.settimeout(usual)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lines:
    """A connection's stream while a header is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._size = 0
        self.last = b""
        self.malformed = False

    def readline(self, limit: int = -1) -> bytes:
        self.last = line = self._stream.readline(limit)
        self._size += len(line)
        if self._size > _MAX_HEADER_BYTES:
            raise OSError(errno.EBADMSG, f"the answer's header has more than {_MAX_HEADER_BYTES} bytes")
        if line.strip() and b":" not in line and not line.startswith((b" ", b"\t", b"HTTP/")):
            self.malformed = True
        return line

    def close(self) -> None:
        self._stream.close()


class BoundedResponse(http.client.HTTPResponse):
    def __init__(self, connection: socket.socket, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(connection, debuglevel, method)
        waiting.stream = BoundedStream(self.fp.detach(), connection)
        self.fp = io.BufferedReader(waiting.stream)

    def begin(self) -> None:
        stream = self.fp
        lines = _Lines(stream)
        self.fp = lines  # type: ignore[assignment]  # begin() reads lines, or closes.
        try:
            super().begin()
        finally:
            if self.fp is not None:
                self.fp = stream
        if lines.last not in (b"\r\n", b"\n"):
            raise ConnectionResetError(errno.ECONNRESET, "the answer ended inside its header")
        if lines.malformed:
            raise OSError(errno.EBADMSG, "the answer's header is malformed")
