"""urllib3's connections with additions: a connection that another thread waits on can be ended, reading has an overall
timeout (:mod:`.bounded`), and the addresses of hosts are limited (:mod:`.zones`).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family, create_connection

from ..concurrency.tasks import current
from .bounded import BoundedResponse, BoundedStream, waiting
from .zones import Reach, Zone, zone_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, SupportsRead

_sources: weakref.WeakKeyDictionary[BaseHTTPResponse, _Source] = weakref.WeakKeyDictionary()
"""The connections of responses. urllib3 drops it for an answer that ends with its connection."""


class AddressRefusedError(Exception):
    """A connection to a host is not permitted because of its address.

    Attributes:
        address: one of its addresses.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


@dataclass(frozen=True, slots=True)
class _Source:
    """The connection of a response."""

    connection: socket.socket
    stream: BoundedStream
    zone: Zone


@contextlib.contextmanager
def read_by(response: BaseHTTPResponse, until: float) -> Iterator[None]:
    """Inside the block, reads of *response* raise TimeoutError after *until*, a time of :func:`time.monotonic`. Responses
    from other connections have no deadline."""
    source = _sources.get(response)
    if source is not None:
        source.stream.until = until
    try:
        yield
    finally:
        if source is not None:
            source.stream.until = float("inf")


def zone_from(response: BaseHTTPResponse) -> Zone:
    """The zone of the server of *response*; PUBLIC if it is unknown, as behind a proxy."""
    source = _sources.get(response)
    return Zone.PUBLIC if source is None else source.zone


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
        """End all connections, including those in use and those that are made later."""
        with self._lock:
            self._ended = True
            connections = list(self._open)
        for connection in connections:
            _hang_up(connection)


def manager(sockets: OpenSockets, reach: Reach, **options: object) -> PoolManager:
    """A pool manager whose connections are in *sockets*; it raises AddressRefusedError if *reach* permits no address."""
    return _equipped(PoolManager(**options), sockets, reach)  # type: ignore[arg-type]  # As urllib3 declares them.


def proxy_manager(sockets: OpenSockets, url: str, **options: object) -> PoolManager:
    """The same through a proxy, which may have any address, and whose connections are not limited."""
    return _equipped(ProxyManager(url, **options), sockets, None)  # type: ignore[arg-type]


def _equipped(made: PoolManager, sockets: OpenSockets, permitted: Reach | None) -> PoolManager:
    class Plain(_PlainConnection):
        open_sockets = sockets
        reach = permitted

    class Secure(_SecureConnection):
        open_sockets = sockets
        reach = permitted

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    made.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return made


class _PlainConnection(HTTPConnection):
    response_class = BoundedResponse
    open_sockets: OpenSockets
    reach: Reach | None
    """The permitted addresses; None for a connection to a proxy."""
    zone = Zone.PUBLIC

    def connect(self) -> None:
        with current().waker(lambda: _hang_up(self.sock)):
            super().connect()
        self.open_sockets.add(self.sock)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # As urllib3 has it.
        connection = self.sock
        with current().waker(lambda: _hang_up(connection)):
            response = super().getresponse()
        waiting.stream.until = float("inf")
        _sources[response] = _Source(connection, waiting.stream, self.zone)
        return response

    def _new_conn(self) -> socket.socket:
        connection = self._connected()
        # The tunnel is requested before connect() ends.
        self.open_sockets.add(connection)
        return connection

    def _connected(self) -> socket.socket:
        """A connection to the first address that is permitted and reachable. The name is only resolved here."""
        try:
            addresses = self._addresses()
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        failure: Exception = AddressRefusedError(addresses[0])
        for address in addresses:
            if self.reach is not None and not self.reach.permits(self.host, self.port, address):
                continue
            left = min(self.timeout or float("inf"), max(waiting.until - time.monotonic(), 0.001))
            try:
                connection = create_connection(
                    (address, self.port),
                    None if left == float("inf") else left,
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except TimeoutError as error:
                failure = ConnectTimeoutError(self, f"connecting to {self.host} took more than {left:g} seconds")
                failure.__cause__ = error
            except OSError as error:
                failure = NewConnectionError(self, f"cannot connect to {self.host}")
                failure.__cause__ = error
            else:
                self.zone = Zone.PUBLIC if self.reach is None else zone_of(address)
                return connection
        raise failure

    def _addresses(self) -> list[str]:
        host = self._dns_host.strip("[]")
        try:
            host.encode("idna")
        except UnicodeError:
            raise LocationParseError(f"'{host}', label empty or too long") from None
        found = socket.getaddrinfo(host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _SecureConnection(_PlainConnection, HTTPSConnection):
    def send(self, data: SupportsRead[bytes] | Iterable[ReadableBuffer] | ReadableBuffer | str) -> None:
        try:
            super().send(data)
        except ssl.SSLEOFError as error:
            # The server has closed: in TLS 1.3 it may do so after the handshake, with an alert that has not been read yet.
            # urllib3 continues reading after a broken pipe, but not after this error.
            raise BrokenPipeError(errno.EPIPE, "the server closed the connection") from error


def hang_up(response: BaseHTTPResponse) -> None:
    """End the connection of *response*, if it is one of these, from another thread than the one that reads."""
    source = _sources.get(response)
    _hang_up(None if source is None else source.connection)


def _hang_up(connection: socket.socket | None) -> None:
    if connection is None:
        return
    with contextlib.suppress(OSError):
        # Not SSLSocket.shutdown, which would remove the session while another thread reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
