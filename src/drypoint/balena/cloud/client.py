"""A client for the API of balenaCloud or openBalena, with its errors.

Sources: open-balena-api (``src/infra/auth/middleware.ts``, ``src/infra/rate-limiting``) and pinejs
(``src/sbvr-api/errors.ts``): without a token, or with an expired or unknown one, the answer is 401 where a login is needed,
but OData resources answer anonymous requests too, with what is public; 429 comes with Retry-After in seconds. The body of an
error is empty or a text in JSON that names the fault of the request. 500 is a failure of the server, also for a query that it
cannot translate or a number that its database cannot hold.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from ...decoders import json_decoder
from ...errors import AuthenticationError, SourceError, TransferError
from ...http.address import is_loopback, shown
from ...http.retry import Patience, TransientError, parse_retry_after
from ...http.zones import Zone
from ...sources.registry import RegistryOptions
from ...text import printable
from .query import encoded_query
from .settings import TOKEN_VARIABLE, CloudSettings

if TYPE_CHECKING:
    from ...http.answer import Answer

MAX_ANSWER_BYTES = 32 << 20
_MAX_REFUSAL_BYTES = 64 << 10
_SHOWN_REFUSAL = 300
_PASSING = frozenset((408, 425))
_Shape = TypeVar("_Shape")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CloudAnswer:
    """An answer with status 200 or one that the caller expects."""

    status: int
    body: bytes = field(repr=False)


class CloudClient:
    """Sends one user's requests to one server. Thread-safe. A context manager.

    The token goes to that server only: a redirect to another host is followed without it.

    Args:
        options: of the network; its credentials and its token provider are not used.
    """

    def __init__(self, settings: CloudSettings, options: RegistryOptions | None = None) -> None:
        # Imported late: HTTP and TLS are slow to import, and most jobs need no API server.
        from ...http.transport import Transport

        self.settings = settings
        self._options = options if options is not None else RegistryOptions()
        self._transport = Transport(settings.host, self._options)
        self._closing = threading.Event()
        self.zone = Zone.PUBLIC
        """Where the server is, once it has answered."""

    def __enter__(self) -> CloudClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end all waits."""
        self._closing.set()
        self._transport.close()

    def get(
        self, path: str, query: Sequence[tuple[str, str]] = (), *, expected: frozenset[int] = frozenset()
    ) -> CloudAnswer:
        """The answer to a GET of *path*: 200, or a status among *expected*.

        Raises:
            AuthenticationError: the server needs another login, or does not permit this request.
            TransferError: the server failed, or cannot be reached, after all retries.
            SourceError: any other error.
        """
        url = f"{self.settings.api_url}{path}"
        if query:
            url += f"?{encoded_query(query)}"
        patience = Patience(self._options.retry, f"{self.settings.host}{path}", self._closing)
        while True:
            try:
                with closing(self._fetch(url)) as answer:
                    # Without the query, which may have private names.
                    _log.debug("%s: status %d", shown(answer.url), answer.status)
                    return self._taken(answer, {200, *expected})
            except TransientError as failure:
                patience.failed(failure)

    def get_json(self, path: str, shape: type[_Shape], query: Sequence[tuple[str, str]] = ()) -> _Shape:
        """The answer to a GET of *path*, decoded as *shape*, a type for msgspec.

        Raises:
            AuthenticationError, TransferError, SourceError: as :meth:`get`.
        """
        return self.read(self.get(path, query), shape, path)

    def read(self, answer: CloudAnswer, shape: type[_Shape], path: str) -> _Shape:
        """*answer* decoded as *shape*.

        Raises:
            SourceError: it does not have that shape.
        """
        try:
            return json_decoder(shape).decode(answer.body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise SourceError(
                f"{self.settings.host}{shown(path)} does not answer as balena's API does; check that it is the address of an "
                "API server, not of a dashboard or a proxy's login page"
            ) from None

    def not_logged_in(self) -> AuthenticationError:
        """The error for a server that does not accept the token, or needs one."""
        host, place = self.settings.host, self.settings.token_origin
        if not self.settings.token:
            return AuthenticationError(self.settings.not_logged_in())
        return AuthenticationError(
            f"{host} does not accept the token from {place}: it has expired, was revoked, or is another server's. Run "
            f"'balena login', or give another one with --token or {TOKEN_VARIABLE}"
        )

    def check_login(self) -> None:
        """Check that the server accepts the login.

        Source: ``GET /actor/v1/whoami`` (open-balena-api 14.1.0 and later, ``src/features/auth``): 200, or 401; older servers
        do not have this path and answer 404, which is accepted.

        Raises:
            AuthenticationError: it does not.
        """
        self.get("/actor/v1/whoami", expected=frozenset((404,)))

    def _fetch(self, url: str) -> Answer:
        headers = {"Accept": "application/json"}
        if self.settings.token:
            headers["Authorization"] = f"Bearer {self.settings.token}"
        # Imported late, see above.
        from ...http.failures import PlainHttpError

        try:
            answer = self._transport.fetch("GET", url, headers)
        except PlainHttpError as error:
            host = self.settings.host
            allowed = is_loopback(urlsplit(url).hostname or "")
            also = "" if allowed else f", and allow that with --insecure-registry {host} if you trust the network"
            raise TransferError(f"{error}. Give the server's address as http://{host}, with --api-url{also}") from error
        self.zone = answer.zone
        return answer

    def _taken(self, answer: Answer, wanted: set[int]) -> CloudAnswer:
        if answer.foreign:
            raise TransferError(
                f"{self.settings.host} redirects to {shown(answer.url)}, to which the token is not sent; "
                "give that server with --api-url if it is the right one"
            )
        if answer.status in wanted:
            return CloudAnswer(answer.status, answer.read_all(MAX_ANSWER_BYTES))
        where = shown(answer.url)
        match answer.status:
            case 401:
                raise self.not_logged_in()
            case 403:
                raise AuthenticationError(
                    f"{where}: the token has no permission (status 403{self._said(answer)}); use a token with more rights"
                )
            case 429:
                raise self._too_many(answer, where)
            case 404 | 405:
                raise SourceError(
                    f"{where}: not found on that server (status {answer.status}); check that {self.settings.api_url} is the "
                    "address of its API"
                )
            case status if status >= 500 or status in _PASSING:
                raise TransientError(
                    f"the server answers status {status}{self._said(answer)}",
                    parse_retry_after(answer.header("Retry-After")),
                    "The server failed, not the network: its log may say why; run the same again later",
                )
            case status:
                raise SourceError(
                    f"{where}: the server answers status {status}{self._said(answer)}; a retry would not help"
                )

    def _said(self, answer: Answer) -> str:
        """The text in the body of an error, for a message: ``: Malformed url: …``; empty if there is none."""
        try:
            body = answer.read_all(_MAX_REFUSAL_BYTES)
        except (TransientError, TransferError):
            return ""
        try:
            decoded: object = json_decoder(str).decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            decoded = body.decode("utf-8", "replace")
        text = printable(str(decoded)).strip()
        if self.settings.token:
            text = text.replace(self.settings.token, "…")
        if not text or text.startswith("<"):
            return ""
        return f": {text[:_SHOWN_REFUSAL]}{'…' if len(text) > _SHOWN_REFUSAL else ''}"

    def _too_many(self, answer: Answer, where: str) -> Exception:
        wait = parse_retry_after(answer.header("Retry-After"))
        if wait is not None and wait > self._options.retry.longest_wait:
            return TransferError(f"{where}: too many requests (status 429); try again in {wait:.0f} seconds")
        return TransientError("too many requests (status 429)", wait)
