"""HTTP as registries need it: requests through pools and proxies, redirects that lose secrets, bounded bodies."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urljoin

import msgspec
import urllib3
from urllib3 import exceptions

from ..concurrency.tasks import current
from ..errors import TransferError
from .address import is_listed, is_loopback, origin, shown
from .connections import OpenSockets, answered_by, hang_up, manager, proxy_manager, read_by
from .options import HttpOptions
from .proxy import Proxy, proxy_rules
from .retry import TransientError
from .tls import tls_context

MAX_REDIRECTS = 5
_POOL_SIZE = 32
_READ_SIZE = 1 << 20
_DISCARDED_BYTES = 64 << 10
_DISCARD_SECONDS = 5.0
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_NO_SUCH_HOST = frozenset((socket.EAI_NONAME,))
_GZIP = b"\x1f\x8b\x08"
_REFUSED_CERTIFICATE = frozenset(
    (
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSLV3_ALERT_NO_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE",
    )
)
"""OpenSSL's names of the alerts by which a server refuses, or misses, a client's certificate (RFC 8446, section 6.2; servers of
TLS 1.2 send handshake_failure for a missing one)."""


_NOT_TLS = frozenset(("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"))
"""OpenSSL's names for an answer that is not TLS, such as that of a server of plain http."""


class PlainHttpError(TransferError):
    """The server does not speak TLS; the message ends without the advice, which is the caller's to give."""


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
            raise TransientError(_why(error)) from error

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


class Transport:
    """The connections for one registry: to it, to its token server, and to the hosts it redirects to.

    One per registry, because docker's certificates are per registry. Thread-safe.
    """

    def __init__(self, domain: str, options: HttpOptions) -> None:
        self._domain = domain
        self._options = options
        self._rules = proxy_rules(options.environment)
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._managers: dict[Proxy | None, urllib3.PoolManager] = {}
        self._sockets = OpenSockets()

    def fetch(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        elsewhere: Callable[[str], str | None] | None = None,
    ) -> Answer:
        """Send a request and follow redirects; a request with a body is not redirected.

        ``Authorization`` is dropped for good once a redirect leaves the origin (scheme, host and port).

        Args:
            elsewhere: gives the Authorization header for an address of another origin; None is for none.

        Raises:
            TransientError: no answer, in a way that may pass; or its header, with all redirects before it, took longer than
                ``request_timeout``.
            TransferError: no answer in a way that will stay: certificates, no such host, redirects that are refused;
                PlainHttpError: the server does not speak TLS.
        """
        kept = {**headers, "User-Agent": self._options.user_agent}
        first = origin(url)
        until = time.monotonic() + self._options.request_timeout
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with answered_by(until):
                    response = self._send(method, url, kept, body)
            except TransientError as error:
                if time.monotonic() < until:
                    raise
                raise TransientError("the answer's header was not complete in time") from error
            foreign = origin(url) != first
            answer = Answer(response, url, foreign, until, self._options.read_timeout, kept.get("Authorization"))
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or body is not None or not location:
                return answer
            answer.discard()
            target = self._redirected(url, location)
            if origin(target) != origin(url):
                kept.pop("Authorization", None)
            if origin(target) != first and elsewhere is not None and (shown_there := elsewhere(target)) is not None:
                kept["Authorization"] = shown_there
            url = target
        raise TransferError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    def close(self) -> None:
        """End all connections, those that other threads wait on too."""
        self._sockets.end()
        with self._lock:
            for pools in self._managers.values():
                pools.clear()

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            to, come_from = origin(target), origin(url)
        except ValueError:
            raise TransferError(f"{shown(url)}: redirects to an address that is not http or https") from None
        if to[0] == "http" and come_from[0] == "https":
            port = "" if to[2] == 80 else f":{to[2]}"
            allowed = is_listed(f"{to[1]}{port}", self._options.insecure_registries)
            if not allowed and not (is_loopback(to[1]) and is_loopback(come_from[1])):
                raise TransferError(
                    f"{shown(url)}: redirects from https to plain http, to {shown(target)}; allow that host as an "
                    "insecure registry if you trust the network"
                )
        return target

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> urllib3.BaseHTTPResponse:
        pools = self._pools(self._rules.proxy_for(url))
        timeout = urllib3.Timeout(connect=self._options.connect_timeout, read=self._options.read_timeout)
        current().check()
        try:
            return pools.request(
                method,
                url,
                headers=headers,
                body=body,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (exceptions.SSLError, ssl.SSLError) as error:
            reason = _tls_reason(error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise TransferError(
                    f"{shown(url)}: the certificate is not trusted: {reason.verify_message}. If the server has its own "
                    f"certificate authority, give its certificate with --add-certificate, or put it in "
                    f"{self._options.certs_directory}/{self._domain}/"
                ) from error
            if isinstance(reason, ssl.SSLError) and reason.reason in _REFUSED_CERTIFICATE:
                raise TransferError(
                    f"{shown(url)}: the server ends the TLS handshake ({reason.reason}): it does not accept this client's "
                    f"certificate, or requires one. Put one in {self._options.certs_directory}/{self._domain}/, as "
                    "client.cert with client.key"
                ) from error
            if isinstance(reason, ssl.SSLError) and reason.reason in _NOT_TLS:
                raise PlainHttpError(
                    f"{shown(url)}: the server does not speak TLS, but plain http most likely ({reason.reason})"
                ) from error
            raise TransientError(_why(error)) from error
        except exceptions.ProxyError as error:
            reason = _tls_reason(error.original_error)
            if isinstance(reason, ssl.SSLError) and reason.reason in _NOT_TLS:
                raise TransferError(
                    f"{shown(url)}: the proxy does not speak TLS ({reason.reason}); give its address as http:// in HTTPS_PROXY "
                    "or HTTP_PROXY, which says how the proxy itself is reached"
                ) from error
            raise TransientError(_why(error)) from error
        except exceptions.NameResolutionError as error:
            cause = error.__cause__
            if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_HOST:
                raise TransferError(
                    f"{shown(url)}: no such host; check the name, the network and the proxy settings"
                ) from error
            raise TransientError(_why(error)) from error
        except (exceptions.LocationValueError, UnicodeError):
            raise TransferError(f"{shown(url)}: not a valid address") from None
        except (exceptions.HTTPError, OSError) as error:
            raise TransientError(_why(error)) from error

    def _pools(self, proxy: Proxy | None) -> urllib3.PoolManager:
        with self._lock:
            pools = self._managers.get(proxy)
            if pools is not None:
                return pools
            if self._context is None:
                self._context = tls_context(self._domain, self._options.ca_files, self._options.certs_directory)
            if proxy is None:
                pools = manager(self._sockets, maxsize=_POOL_SIZE, ssl_context=self._context)
            else:
                login = f"{proxy.username}:{proxy.password}"
                pools = proxy_manager(
                    self._sockets,
                    proxy.url,
                    maxsize=_POOL_SIZE,
                    ssl_context=self._context,
                    proxy_ssl_context=self._context,
                    proxy_headers=urllib3.make_headers(proxy_basic_auth=login) if proxy.username else {},
                )
            self._managers[proxy] = pools
            return pools


def _tls_reason(error: BaseException) -> BaseException:
    """The error of OpenSSL inside what urllib3 made of it."""
    while isinstance(error, exceptions.SSLError) and error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return error


def _why(error: BaseException) -> str:
    """What failed, without an address: urllib3's own messages may quote a signed one."""
    match error:
        case exceptions.NameResolutionError():
            return "the host's name could not be resolved"
        case exceptions.ReadTimeoutError():
            return "the connection stalled"
        case exceptions.ProxyError():
            return f"the proxy failed: {_why(error.original_error)}"
        case exceptions.ConnectTimeoutError() if not isinstance(error, exceptions.NewConnectionError):
            return "connecting took too long"
        case exceptions.SSLError() | ssl.SSLError():
            reason = _tls_reason(error)
            return (
                f"TLS failed: {reason.reason or 'no reason given'}"
                if isinstance(reason, ssl.SSLError)
                else "TLS failed"
            )
        case exceptions.IncompleteRead():
            return "the connection ended early"
        case exceptions.ProtocolError():
            inner = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], BaseException) else None
            return f"the connection broke ({_why(inner)})" if inner is not None else "the connection broke"
        case exceptions.NewConnectionError():
            cause = error.__cause__
            return f"cannot connect ({_why(cause)})" if cause is not None else "cannot connect"
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return type(error).__name__
