"""A base disk image from a web server, as a stream that resumes after broken connections.

Protocol: RFC 9110, sections 8.8 (ETag, Last-Modified), 13.1.5 (If-Range) and 14 (Range).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import TransferError, UsageError
from ..http.address import origin
from ..sources.registry import RegistryOptions
from .base_stream import DEFAULT_NAME, BaseStream

if TYPE_CHECKING:
    from ..http.answer import Answer
    from ..http.retry import Patience
    from ..http.transport import Transport

_PLAIN_NAME = re.compile(r"[^/\0]{1,200}")
_PASSING = frozenset((408, 425, 429))


@contextmanager
def url_stream(url: str, options: RegistryOptions | None = None) -> Iterator[BaseStream]:
    """A base from a web server that gives its length.

    A connection that breaks, stalls or ends early is replaced, for the bytes from where it ended. If the file changed on the
    server in the meantime, the transfer ends with ContentError: two versions are never mixed.

    Args:
        options: of the network; credentials are not used.

    Raises:
    TransferError: it is not available, or the server does not give its length.
    UsageError: it is not an http or https address, or has a user name in it; or a certificate cannot be read.
    """
    # Imported late: a base from a file does not need HTTP and TLS.
    from ..http.retry import Patience
    from ..http.transfer import Body, transfer
    from ..http.transport import Transport

    try:
        origin(url)
    except ValueError as error:
        raise UsageError(
            "BASE is an address that cannot be used: give one of http or https with a host, without a user name and password"
        ) from error
    options = options if options is not None else RegistryOptions()
    where = _without_secrets(url)
    closed = threading.Event()
    patience = Patience(options.retry, where, closed)
    transport = Transport(urlsplit(url).netloc, options)
    try:
        file = _File(transport, url, where)
        with closing(file.first(patience)) as first:
            length = first.header("Content-Length") or ""
            if not (length.isascii() and length.isdecimal() and len(length) < 19):
                raise TransferError(f"{where}: the server does not say how long it is; download it first")
            file.size = int(length)
            body = Body(where, file.size, "the file", "the server said at first", vouched=False)
            yield BaseStream(transfer(body, file.open_at, patience), file.size, _name_of(url))
    finally:
        closed.set()
        transport.close()


class _File:
    """Requests one file, any number of times, and detects another version."""

    def __init__(self, transport: Transport, url: str, where: str) -> None:
        self._transport = transport
        self._url = url
        self._where = where
        self._first: Answer | None = None
        self._version: tuple[str | None, str | None] = (None, None)
        self.size = 0

    def first(self, patience: Patience) -> Answer:
        """The first answer, which gives the size; the first call of :meth:`open_at` returns it."""
        from ..http.retry import TransientError

        while self._first is None:
            try:
                self._first = self._ask(0, ranged=False)
            except TransientError as failure:
                patience.failed(failure)
        return self._first

    def open_at(self, offset: int, ranged: bool) -> Answer:
        """See :func:`~drypoint.http.transfer.transfer`."""
        first, self._first = self._first, None
        return first if first is not None else self._ask(offset, ranged=ranged)

    def _ask(self, offset: int, *, ranged: bool) -> Answer:
        from ..http.failures import PlainHttpError
        from ..http.retry import TransientError, parse_retry_after
        from ..http.transfer import ODD_STATUSES, RangeError

        headers = {"Range": f"bytes={offset}-{self.size - 1}"} if ranged else {}
        etag, modified = self._version
        # An equal weak ETag does not mean equal bytes.
        condition = etag if etag is not None and not etag.startswith("W/") else modified
        if ranged and condition:
            headers["If-Range"] = condition
        try:
            answer = self._transport.fetch("GET", self._url, headers)
        except PlainHttpError as error:
            raise TransferError(f"{error}. Give the address with http:// if you trust the network") from error
        version = (answer.header("ETag"), answer.header("Last-Modified"))
        match answer.status:
            case 200:
                self._version = version
                return answer
            case 206 if ranged:
                if any(
                    old is not None and new is not None and old != new
                    for old, new in zip(self._version, version, strict=True)
                ):
                    answer.close()
                    raise RangeError("the server has another version of the file now, or another server answers")
                return answer
            case status if ranged and status in ODD_STATUSES:
                return answer
            case status:
                retry_after = parse_retry_after(answer.header("Retry-After"))
                answer.close()
                # The URL of a redirect may expire; a new request to the first URL gives a new one.
                if status >= 500 or status in _PASSING or (ranged and answer.foreign and status in (401, 403)):
                    raise TransientError(f"the server answers {status}", retry_after, status=status)
                raise TransferError(f"{self._where} cannot be had: the server answers {status}")


def _name_of(url: str) -> str:
    name = urlsplit(url).path.rpartition("/")[2]
    return name if _PLAIN_NAME.fullmatch(name) else DEFAULT_NAME


def _without_secrets(url: str) -> str:
    """The URL without user, password and query, which may be a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
