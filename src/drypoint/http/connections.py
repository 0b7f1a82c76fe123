"""urllib3's connections, with three things that it leaves out: an answer that ends inside its header is an error, a
connection that another thread waits on can be ended, and reading has a bound in all, not only from one byte to the next.

http.client takes the end of the connection for the end of the header (``_read_headers`` stops at an empty line), so an answer
that was cut there looks like a whole one without a length. urllib3 only logs what is left of a header that cannot be read.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from ..concurrency.tasks import current

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, SupportsRead, WriteableBuffer

_MAX_HEADER_BYTES = 1 << 20
"""Of all headers before a body, those of answers like ``100 Continue`` included."""

_sockets: weakref.WeakKeyDictionary[BaseHTTPResponse, socket.socket] = weakref.WeakKeyDictionary()
"""Where responses come from. urllib3 forgets it for an answer that ends with its connection."""
_streams: weakref.WeakKeyDictionary[BaseHTTPResponse, _Stream] = weakref.WeakKeyDictionary()
"""What responses are read through."""


class _Waiting(threading.local):
    """What this thread waits for: an answer whose header has to be there at *until*, and what it is read through."""

    until = float("inf")
    stream: _Stream


_waiting = _Waiting()


@contextlib.contextmanager
def answered_by(until: float) -> Iterator[None]:
    """Requests of this thread raise TimeoutError unless the header of their answer is there at *until*, a time of
    :func:`time.monotonic`; those of proxies before it, too."""
    _waiting.until = until
    try:
        yield
    finally:
        _waiting.until = float("inf")


@contextlib.contextmanager
def read_by(response: BaseHTTPResponse, until: float) -> Iterator[None]:
    """Reads of *response* raise TimeoutError after *until*, a time of :func:`time.monotonic`, as long as the block lasts.
    A response that did not come from one of these connections has no bound."""
    stream = _streams.get(response)
    if stream is not None:
        stream.until = until
    try:
        yield
    finally:
        if stream is not None:
            stream.until = float("inf")


class OpenSockets:
    """The sockets of one transport."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._ended = False

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
            ended = self._ended
        if ended:
            _hang_up(connection)

    def end(self) -> None:
        """End all connections, those in use too, and those that are made from now on."""
        with self._lock:
            self._ended = True
            connections = list(self._open)
        for connection in connections:
            _hang_up(connection)


def manager(sockets: OpenSockets, **options: object) -> PoolManager:
    """A pool manager whose connections are among *sockets*."""
    return _equipped(PoolManager(**options), sockets)  # type: ignore[arg-type]  # As urllib3 declares them.


def proxy_manager(sockets: OpenSockets, url: str, **options: object) -> PoolManager:
    """The same through a proxy."""
    return _equipped(ProxyManager(url, **options), sockets)  # type: ignore[arg-type]


def _equipped(made: PoolManager, sockets: OpenSockets) -> PoolManager:
    class Plain(_PlainConnection):
        open_sockets = sockets

    class Secure(_SecureConnection):
        open_sockets = sockets

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    made.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return made


class _Stream(io.RawIOBase):
    """A connection's bytes. The timeout of a socket is for each read anew; here all of them together end at ``until``."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        self._raw = raw
        self._connection = connection
        self.until = _waiting.until

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
    """A connection's stream, while a header is read from it."""

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


class _Response(http.client.HTTPResponse):
    def __init__(self, connection: socket.socket, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(connection, debuglevel, method)
        _waiting.stream = _Stream(self.fp.detach(), connection)
        self.fp = io.BufferedReader(_waiting.stream)

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


class _PlainConnection(HTTPConnection):
    response_class = _Response
    open_sockets: OpenSockets

    def connect(self) -> None:
        with current().waker(lambda: _hang_up(self.sock)):
            super().connect()
        self.open_sockets.add(self.sock)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # As urllib3 has it.
        connection = self.sock
        with current().waker(lambda: _hang_up(connection)):
            response = super().getresponse()
        _sockets[response] = connection
        _streams[response] = _waiting.stream
        _waiting.stream.until = float("inf")
        return response

    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        # A tunnel is asked for before connect() ends.
        self.open_sockets.add(connection)
        return connection


class _SecureConnection(_PlainConnection, HTTPSConnection):
    def send(self, data: SupportsRead[bytes] | Iterable[ReadableBuffer] | ReadableBuffer | str) -> None:
        try:
            super().send(data)
        except ssl.SSLEOFError as error:
            # The server has closed: in TLS 1.3 it may do so after the handshake, with an alert that is still to be read.
            # urllib3 goes on to read after a broken pipe, and not after this.
            raise BrokenPipeError(errno.EPIPE, "the server closed the connection") from error


def hang_up(response: BaseHTTPResponse) -> None:
    """End the connection that *response* comes from, if it is one of these. For another thread than the one that reads."""
    _hang_up(_sockets.get(response))


def _hang_up(connection: socket.socket | None) -> None:
    if connection is None:
        return
    with contextlib.suppress(OSError):
        # Not SSLSocket's own, which takes the session away from under the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
