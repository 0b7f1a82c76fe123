"""Registry tokens from the API server.

Source: open-balena-api, ``src/features/registry``. ``GET /auth/v1/token?service=<registry>&scope=repository:<path>:pull``,
with one scope for each image, answers ``{"token": <JWT>}``, whose claim ``access`` lists the grants: a refused scope is in it
with no actions. The token is valid for hours (REGISTRY_TOKEN_EXPIRY_SECONDS, 4 h), less on some servers.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from ...decoders import json_decoder
from ...errors import AuthenticationError
from ...oci import Reference
from .client import CloudClient

_SCOPE = re.compile(r"repository:(.+):pull")
_SCOPES_LENGTH = 6000
"""Characters of scopes in one request: Node.js accepts 16 KiB of request line and headers, with the login."""
_LIFETIME_USED = 0.9
_UNKNOWN_LIFETIME = 300.0
"""Seconds for which a token without an expiry is used."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    until: float


class _RawAnswer(msgspec.Struct):
    token: str = ""


class _RawAccess(msgspec.Struct):
    name: str = ""
    alias: str | None = None
    actions: list[str] = []


class _RawClaims(msgspec.Struct):
    iat: float | None = None
    exp: float | None = None
    access: list[_RawAccess] | None = None


class RegistryTokens:
    """Provides registry tokens for all images together; a :data:`~drypoint.sources.registry.TokenProvider`.

    The login goes to the server only, whatever a registry says. Registry tokens go to the registries of *images*, to the
    server's own by balena's naming, and to those of *callers* that name the server as their token server. All other
    registries use the common token protocol, whatever token server they name: an apps.json from anywhere may name the
    registry, and a token would be valid for an image of the user's. Without a login, so do all but the first.

    Args:
        images: the images in the server's own target states.
        callers: the registries that the caller names.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: CloudClient,
        images: Iterable[Reference] = (),
        callers: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._callers = callers
        self._clock = clock
        self._lock = threading.Lock()
        self._paths: dict[str, dict[str, None]] = {}
        self._named: set[str] = set()
        self._tokens: dict[tuple[str, frozenset[str]], _Token] = {}
        for image in images:
            self._named.add(image.domain)
            self._paths.setdefault(image.domain, {})[image.path] = None

    def __call__(self, registry: str, scopes: tuple[str, ...], refused: str | None, realm: str, /) -> str | None:
        """A token for *scopes* of *registry*, or None if the registry does not use this server's tokens.

        Raises:
            AuthenticationError: the server refuses.
            SourceError: it cannot be reached.
        """
        wanted = [match[1] for scope in scopes if (match := _SCOPE.fullmatch(scope)) is not None]
        if len(wanted) != 1 or len(scopes) != 1:
            return None
        if registry not in self._named and not (self._may_have_tokens(registry, realm) and self._client.settings.token):
            return None
        # Held during the request, so that threads that need the same token wait for it.
        with self._lock:
            known = self._paths.setdefault(registry, {})
            known.setdefault(wanted[0])
            group = next(group for group in _groups(known) if wanted[0] in group)
            token = self._tokens.get((registry, group))
            if token is None or token.text == refused or self._clock() >= token.until:
                token = self._tokens[registry, group] = self._ask(registry, group, wanted[0])
            return token.text

    def advice(self, registry: str, realm: str) -> str | None:
        """How to log in, for a registry without a token; see :class:`~drypoint.sources.registry.auth.AdvisingTokenProvider`."""
        settings = self._client.settings
        if self._may_have_tokens(registry, realm):
            return None if settings.token else settings.not_logged_in()
        if settings.gives_tokens_at(realm):
            return (
                f"it names {settings.host} as its token server, but only apps.json names it, so the login is not used there. "
                f"If it is that server's registry, name an image of it with --image, or run: docker login {registry}"
            )
        return None

    def _may_have_tokens(self, registry: str, realm: str) -> bool:
        settings = self._client.settings
        if registry in self._named or registry == settings.registry:
            return True
        return registry in self._callers and settings.gives_tokens_at(realm)

    def _ask(self, registry: str, paths: frozenset[str], wanted: str) -> _Token:
        asked_at = self._clock()
        query = [("service", registry), *(("scope", f"repository:{path}:pull") for path in sorted(paths))]
        text = self._client.get_json("/auth/v1/token", _RawAnswer, query).token
        claims = _claims(text)
        if claims.access is not None and not _is_granted(claims.access, wanted):
            self._client.check_login()
            raise AuthenticationError(
                f"{self._client.settings.host} does not let this login pull {registry}/{wanted}: it has no access to the "
                "image's fleet, or the image was deleted"
            )
        return _Token(text, asked_at + _lifetime(claims) * _LIFETIME_USED)


def _groups(paths: Iterable[str]) -> Iterator[frozenset[str]]:
    """*paths* in their order, grouped by what fits into one request."""
    group: list[str] = []
    length = 0
    for path in paths:
        cost = len(path) + len("&scope=repository::pull")
        if group and length + cost > _SCOPES_LENGTH:
            yield frozenset(group)
            group, length = [], 0
        group.append(path)
        length += cost
    if group:
        yield frozenset(group)


def _claims(token: str) -> _RawClaims:
    """The claims of a JWT (RFC 7519), whose signature the registry checks. Empty for another kind of token."""
    parts = token.split(".")
    if len(parts) != 3:
        return _RawClaims()
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return json_decoder(_RawClaims).decode(payload)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return _RawClaims()


def _lifetime(claims: _RawClaims) -> float:
    """Seconds from issue to expiry, both by the server's clock, because this machine's may be wrong."""
    if claims.exp is None or claims.iat is None:
        return _UNKNOWN_LIFETIME
    return max(claims.exp - claims.iat, 0.0)


def _is_granted(access: list[_RawAccess], path: str) -> bool:
    return any(path in (one.name, one.alias) and "pull" in one.actions for one in access)
