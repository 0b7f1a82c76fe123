"""The HTTP transport: connection pools and proxies, redirects without secrets, bounded bodies."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3 import exceptions

from ..concurrency.tasks import current
from ..errors import TransferError
from .address import is_listed, is_loopback, origin, shown
from .answer import Answer
from .bounded import answered_by
from .connections import AddressRefusedError, OpenSockets, manager, proxy_manager
from .failures import address_failure, failure_of
from .options import HttpOptions
from .proxy import Proxy, proxy_rules
from .retry import TransientError
from .tls import tls_context
from .zones import Reach, Zone, written_address

MAX_REDIRECTS = 5
_POOL_SIZE = 32
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class Transport:
    """The connections for one registry: to itself, its token server, and the hosts that it redirects to.

    One for each registry, because docker's certificates are per registry. Thread-safe.
    """

    def __init__(self, domain: str, options: HttpOptions) -> None:
        self._domain = domain
        self._options = options
        self._rules = proxy_rules(options.environment)
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._managers: dict[Proxy | Reach, urllib3.PoolManager] = {}
        self._sockets = OpenSockets()

    def fetch(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        elsewhere: Callable[[str], str | None] | None = None,
        named_from: Zone | None = None,
    ) -> Answer:
        """Send a request and follow redirects; a request with a body is not redirected.

        ``Authorization`` is dropped for good once a redirect leaves the origin (scheme, host and port).

        Args:
            elsewhere: returns the Authorization header for a URL of another origin, or None.
            named_from: the zone of the server that named *url*; None for the zone in the options.

        Raises:
            TransientError: no answer, but a retry may help; or its header, with all redirects before it, took longer than
                ``request_timeout``.
            TransferError: no answer, and a retry would not help: certificates, no such host, refused redirects, a host
                that a server named and that is in a more private network than that server. PlainHttpError if the server does
                not speak TLS.
        """
        kept = {**headers, "User-Agent": self._options.user_agent}
        first = origin(url)
        until = time.monotonic() + self._options.request_timeout
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with answered_by(until):
                    response = self._send(method, url, kept, body, self._reach(url, named_from))
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
                named_from = answer.zone
            if origin(target) != first and elsewhere is not None and (shown_there := elsewhere(target)) is not None:
                kept["Authorization"] = shown_there
            url = target
        raise TransferError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    def close(self) -> None:
        """End all connections, including those that other threads wait on."""
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

    def _reach(self, url: str, named_from: Zone | None) -> Reach:
        """The permitted addresses for *url*. The transport's own host was named by the caller, even if others name it again."""
        is_own = origin(url)[1] == urlsplit(f"//{self._domain}").hostname
        return self._options.reach(self._options.named_from if is_own or named_from is None else named_from)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, reach: Reach
    ) -> urllib3.BaseHTTPResponse:
        pools = self._pools_for(url, reach)
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
        except (exceptions.HTTPError, AddressRefusedError, OSError, UnicodeError) as error:
            raise failure_of(error, url, self._options.certs_directory / self._domain) from error

    def _pools_for(self, url: str, reach: Reach) -> urllib3.PoolManager:
        proxy = self._rules.proxy_for(url)
        _, host, port = origin(url)
        # The proxy resolves names, and may refuse them.
        address = None if proxy is None else written_address(host)
        if address is not None and not reach.permits(host, port, address):
            raise address_failure(url, address)
        return self._pools(proxy, reach)

    def _pools(self, proxy: Proxy | None, reach: Reach) -> urllib3.PoolManager:
        # Requests with different limits must not share connections.
        kind = proxy or reach
        with self._lock:
            pools = self._managers.get(kind)
            if pools is not None:
                return pools
            if self._context is None:
                self._context = tls_context(self._domain, self._options.ca_files, self._options.certs_directory)
            if proxy is None:
                pools = manager(self._sockets, reach, maxsize=_POOL_SIZE, ssl_context=self._context)
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
            self._managers[kind] = pools
            return pools
