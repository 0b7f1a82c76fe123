"""Authentication: the dialogue with a registry's token server, without I/O, and a cache of tokens.

Formats: Docker Registry v2 token authentication (``spec/auth/token.md`` and ``oauth.md`` of distribution), RFC 7617.

As with docker, credentials go to the realm that the registry names, on any host, because token servers are often elsewhere
(docker.io's is auth.docker.io). Stricter than docker, a realm must be https, unless the registry itself is reached by plain
http (see :func:`realm_is_safe`).
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from ...errors import AuthenticationError
from ...go_json import JsonError, decode_go
from ...http.address import is_loopback, origin, shown
from .challenge import Challenge
from .credentials import Credentials, CredentialStore

_CLIENT_ID = "drypoint"
_DEFAULT_LIFETIME = 60.0
"""The lifetime in seconds of a token without ``expires_in`` (token.md)."""
_LIFETIME_USED = 0.9
"""The fraction of a token's lifetime that is used, so that it does not expire in transit."""
_TOKEN = re.compile(r"[\x21-\x7e]{1,131072}")


class TokenProvider(Protocol):
    """A caller's own source of bearer tokens, such as a service that issues one token for many repositories.

    Args:
        registry: the domain that asks for a token.
        scopes: each ``repository:PATH:pull``.
        refused: a token of this provider that the registry no longer accepts, or None.
        realm: the token server that the registry names, which is untrusted.

    Returns None to use the common dialogue for the registry. Called for each request, from several threads; it caches its
    tokens itself, and renews them before they expire.
    """

    def __call__(self, registry: str, scopes: tuple[str, ...], refused: str | None, realm: str, /) -> str | None: ...


@runtime_checkable
class AdvisingTokenProvider(TokenProvider, Protocol):
    """A token provider that can say which login is missing if it returned no token."""

    def advice(self, registry: str, realm: str) -> str | None:
        """How to log in to *registry*, for the end of a message; None if the provider does not serve it."""
        ...


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token server."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authorization:
    """A value for the Authorization header, and its lifetime in seconds; None means unlimited."""

    header: str = field(repr=False)
    lifetime: float | None = None


class _RawToken(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = 0.0


def authorize(
    challenges: Sequence[Challenge],
    credentials: Credentials | None,
    scopes: tuple[str, ...],
    registry: str,
    *,
    plain_http: bool,
    advice: str = "",
) -> Generator[TokenRequest, TokenAnswer, Authorization]:
    """The dialogue after a registry's 401: yields token requests, is sent the answers, returns the header's value.

    Args:
        plain_http: whether the registry itself was reached by plain http.
        advice: how to log in, for messages; ``docker login`` if empty.

    Raises:
        AuthenticationError: these credentials do not fit any challenge, or the token server refuses.
    """
    if credentials is not None and credentials.registry_token:
        return Authorization(f"Bearer {_checked(credentials.registry_token, registry)}")
    advice = advice or f"run: docker login {registry}"
    by_scheme: dict[str, Challenge] = {}
    for challenge in challenges:
        by_scheme.setdefault(challenge.scheme, challenge)
    bearer = by_scheme.get("bearer")
    if bearer is not None and bearer.parameters.get("realm"):
        return (yield from _bearer(bearer, credentials, scopes, registry, plain_http=plain_http, advice=advice))
    if "basic" in by_scheme:
        if credentials is None or not credentials.username:
            raise AuthenticationError(f"{registry} requires a user name and a password; {advice}")
        return Authorization(_basic(credentials))
    offered = ", ".join(sorted(scheme[:40] for scheme in by_scheme)) or "none"
    raise AuthenticationError(f"{registry} asks for credentials in a way that is not supported ({offered})")


def realm_is_safe(realm: str, registry: str, *, plain_http: bool) -> bool:
    """Whether credentials may be sent to a token server: by https always; by plain http only if the registry itself is
    reached so, and on its own host, or from loopback to loopback."""
    try:
        scheme, host, _ = origin(realm)
    except ValueError:
        return False
    if scheme == "https":
        return True
    own = urlsplit(f"//{registry}").hostname or ""
    return plain_http and (host == own or (is_loopback(host) and is_loopback(own)))


def _bearer(
    challenge: Challenge,
    credentials: Credentials | None,
    scopes: tuple[str, ...],
    registry: str,
    *,
    plain_http: bool,
    advice: str,
) -> Generator[TokenRequest, TokenAnswer, Authorization]:
    realm, service = challenge.parameters["realm"], challenge.parameters.get("service", "")
    if realm.startswith(("/", "./", "../")):
        # Some servers behind a proxy only know their own path.
        realm = urljoin(f"{'http' if plain_http else 'https'}://{registry}/v2/", realm)
    if not realm_is_safe(realm, registry, plain_http=plain_http):
        raise AuthenticationError(
            f"{registry} names {shown(realm)!r} as its token server: expected an https address, "
            "so no credentials were sent there"
        )
    if credentials is not None and credentials.identity_token:
        request = _refresh_request(realm, service, scopes, credentials.identity_token)
    else:
        request = _plain_request(realm, service, scopes, credentials)
    answer = yield request
    if answer.status >= 300:
        who = "with the given credentials" if credentials else "without credentials"
        raise AuthenticationError(
            f"token server {shown(realm)} refuses access to {registry} {who} (status {answer.status}); {advice}"
        )
    try:
        raw = decode_go(answer.body, _RawToken, first=True)
    except JsonError:
        # Without the parser's message, which may quote the answer, a secret.
        raise AuthenticationError(f"token server {shown(realm)} gave an answer that is not JSON with a token") from None
    token = _checked(raw.access_token or raw.token, shown(realm))
    lifetime = raw.expires_in if raw.expires_in > 0 else _DEFAULT_LIFETIME
    return Authorization(f"Bearer {token}", lifetime)


def _plain_request(realm: str, service: str, scopes: tuple[str, ...], credentials: Credentials | None) -> TokenRequest:
    headers = {}
    query: list[tuple[str, str]] = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    if credentials is not None and credentials.username and credentials.password:
        query.append(("account", credentials.username))
        headers["Authorization"] = _basic(credentials)
    parts = urlsplit(realm)
    whole = urlencode(parse_qsl(parts.query, keep_blank_values=True) + query, errors="surrogateescape")
    return TokenRequest("GET", urlunsplit((parts.scheme, parts.netloc, parts.path, whole, "")), headers)


def _refresh_request(realm: str, service: str, scopes: tuple[str, ...], identity_token: str) -> TokenRequest:
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(scopes),
        "refresh_token": identity_token,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return TokenRequest("POST", realm, headers, urlencode(form).encode())


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}"
    return "Basic " + base64.b64encode(pair.encode("utf-8", "surrogateescape")).decode("ascii")


def _checked(token: str, giver: str) -> str:
    if _TOKEN.fullmatch(token) is None:
        raise AuthenticationError(f"{giver} gave no token, or one that is not valid in a header")
    return token


class _Cached(msgspec.Struct):
    header: str
    until: float


class Authenticator:
    """The Authorization headers for one registry, by scope. Thread-safe.

    Args:
        registry: the domain, as in references and credential stores.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        registry: str,
        store: CredentialStore,
        provider: TokenProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._store = store
        self._provider = provider
        self._clock = clock
        self._lock = threading.Lock()
        self._challenges: tuple[Challenge, ...] = ()
        self._cached: dict[str, _Cached] = {}
        self._credentials: Credentials | None = None
        self._looked_up = False
        self._is_provided = False
        self._problem = ""

    def learn(self, challenges: tuple[Challenge, ...]) -> None:
        """Store the registry's challenges, so that the next scope does not need a 401 first."""
        if challenges:
            with self._lock:
                self._challenges = challenges

    def header(
        self,
        scope: str,
        exchange: Callable[[TokenRequest], TokenAnswer],
        *,
        plain_http: bool,
        refused: str | None = None,
    ) -> str | None:
        """The Authorization header for *scope*; None as long as the registry has not sent a challenge.

        Args:
            exchange: sends one request to a token server.
            refused: a header that the registry has just refused, so that a new one is needed.

        Raises:
            AuthenticationError: there is no valid login.
        """
        # Held during the exchange, so that threads that need the same token wait for it.
        with self._lock:
            cached = self._cached.get(scope)
            if cached is not None and cached.header != refused and self._clock() < cached.until:
                return cached.header
            if not self._challenges:
                return None
            asked_at = self._clock()
            found = self._obtain(scope, exchange, plain_http=plain_http, refused=refused)
            life = float("inf") if found.lifetime is None else found.lifetime * _LIFETIME_USED
            self._cached[scope] = _Cached(found.header, asked_at + life)
            return found.header

    def knows(self) -> bool:
        """Whether there are credentials, or the provider issues the tokens."""
        with self._lock:
            return self._is_provided or bool(self._look_up())

    def advice(self) -> str:
        """Why there are no credentials, and how to log in, for the end of a message."""
        with self._lock:
            if self._problem:
                return f"credentials could not be looked up: {self._problem}"
            return self._advice() or f"run: docker login {self._registry}"

    def _obtain(
        self,
        scope: str,
        exchange: Callable[[TokenRequest], TokenAnswer],
        *,
        plain_http: bool,
        refused: str | None,
    ) -> Authorization:
        realm = self._realm()
        if self._provider is not None and realm is not None:
            known = refused.removeprefix("Bearer ") if refused else None
            # Before the call: a provider that raises is responsible for the registry, too.
            self._is_provided = True
            token = self._provider(self._registry, (scope,), known, realm)
            self._is_provided = token is not None
            if token is not None:
                # Not cached: only the provider knows when its tokens expire.
                return Authorization(f"Bearer {_checked(token, 'the token provider')}", 0.0)
        credentials = self._look_up()
        dialogue = authorize(
            self._challenges, credentials, (scope,), self._registry, plain_http=plain_http, advice=self._advice()
        )
        try:
            request = next(dialogue)
            while True:
                request = dialogue.send(exchange(request))
        except StopIteration as end:
            authorization: Authorization = end.value
            return authorization
        except AuthenticationError as error:
            if self._problem:
                raise AuthenticationError(f"{error} (credentials could not be looked up: {self._problem})") from error
            raise

    def _realm(self) -> str | None:
        """The token server that the registry names, empty if it names none; None if it does not use tokens."""
        bearer = next((challenge for challenge in self._challenges if challenge.scheme == "bearer"), None)
        return None if bearer is None else bearer.parameters.get("realm", "")

    def _advice(self) -> str:
        realm = self._realm()
        if realm is None or not isinstance(self._provider, AdvisingTokenProvider):
            return ""
        return self._provider.advice(self._registry, realm) or ""

    def _look_up(self) -> Credentials | None:
        if not self._looked_up:
            try:
                self._credentials = self._store.get(self._registry)
            except AuthenticationError as error:
                # Public images need no credentials, so a broken helper must not prevent their use.
                self._problem = str(error)
            self._looked_up = True
        return self._credentials
