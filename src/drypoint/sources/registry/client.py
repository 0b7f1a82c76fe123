"""The client for one registry: base URL, authentication, requests and errors.

Protocol: OCI distribution-spec 1.1, "Pull"; Docker Registry HTTP API V2.
"""

from __future__ import annotations

import re
import threading
from contextlib import closing
from functools import partial
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from ...digest import Digest, digest_of
from ...errors import (
    AuthenticationError,
    DigestMismatchError,
    ImageNotFoundError,
    TransferError,
)
from ...go_json import JsonError, decode_go
from ...http.address import is_listed, is_loopback, origin, shown
from ...http.answer import Answer
from ...http.failures import PlainHttpError
from ...http.retry import Patience, TransientError, parse_retry_after
from ...http.transfer import ODD_STATUSES
from ...http.transport import Transport
from ...http.zones import Zone
from ...oci import Descriptor
from ...oci.manifest import ACCEPTED_MANIFEST_TYPES, MAX_MANIFEST_BYTES, refuse_schema_1
from ...oci.reference import DEFAULT_DOMAIN
from .auth import Authenticator, TokenAnswer, TokenRequest
from .challenge import parse_challenges
from .options import RegistryOptions

_DOCKER_HUB = "registry-1.docker.io"
_MAX_TOKEN_BYTES = 1 << 20
_MAX_ERROR_BYTES = 64 << 10
_PASSING = frozenset((408, 425, 429))
_GREETINGS = 3
"""Attempts for ``/v2/`` at a registry that cannot answer it."""
_API = re.compile(r"(?:/.*)?/v2/")
_SCOPE = re.compile(r"(?:/.*?)??/v2/(.+)/(?:manifests|blobs)/[^/]+")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_SCHEMA_1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
# Schema 1 is accepted here so that it can be refused by name: otherwise registries answer "unknown manifest".
_ACCEPT = ", ".join((*ACCEPTED_MANIFEST_TYPES, *_SCHEMA_1_TYPES))
_ERROR_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,39}")


class FetchedManifest(msgspec.Struct, frozen=True):
    """A manifest's exact bytes, checked against ``digest``, and the media type of the answer."""

    content: bytes
    media_type: str
    digest: Digest


class _RawError(msgspec.Struct):
    code: str = ""


class _RawErrors(msgspec.Struct):
    errors: list[_RawError] | None = None


class _BusyError(TransientError):
    """A server answered, so that no other base is tried."""


class RegistryClient:
    """Sends requests to one registry. Thread-safe.

    Args:
        domain: as in references.
        closing: set to end all waits.
    """

    def __init__(self, domain: str, options: RegistryOptions, closing: threading.Event) -> None:
        self.domain = domain
        self._options = options
        self._closing = closing
        self._transport = Transport(domain, options)
        self._logins: dict[tuple[str, str, int], Authenticator] = {}
        self._zones: dict[tuple[str, str, int], Zone] = {}
        self._logins_lock = threading.Lock()
        self._greetings = 0
        self._lock = threading.Lock()
        self._found_base: str | None = None

    def close(self) -> None:
        self._transport.close()

    def patience(self, what: str, attempts: int | None = None) -> Patience:
        """A counter of failures for one transfer; *attempts*: the most failures in a row."""
        policy = self._options.retry
        if attempts is not None:
            policy = replace(policy, attempts=min(attempts, policy.attempts))
        return Patience(policy, what, self._closing)

    def fetch_manifest(self, repository: str, tag_or_digest: str) -> FetchedManifest:
        """The manifest that *tag_or_digest* names in *repository* (a path).

        Raises:
            SourceError: it is not available.
            DigestMismatchError: it has another digest.
            ManifestError: it is of schema 1.
        """
        path = f"/v2/{repository}/manifests/{tag_or_digest}"
        patience = self.patience(f"{self.domain}{path}")
        while True:
            try:
                return self._manifest(path, repository, tag_or_digest)
            except TransientError as failure:
                patience.failed(failure)

    def _manifest(self, path: str, repository: str, tag_or_digest: str) -> FetchedManifest:
        with closing(self._open(path, repository, {"Accept": _ACCEPT}, frozenset((200,)))) as answer:
            content = answer.read_all(MAX_MANIFEST_BYTES)
        where = shown(answer.url)
        digest = digest_of(content)
        said = tag_or_digest if ":" in tag_or_digest else (answer.header("Docker-Content-Digest") or "").strip()
        media_type = answer.header("Content-Type") or ""
        if not content or (_DIGEST.fullmatch(said) is not None and said != digest):
            if not answer.has_end:
                raise TransientError(f"the answer, without a length, ended after {len(content)} bytes, too early")
            # The digest of a signed manifest (schema 1) is that of its payload without the signatures.
            refuse_schema_1(content, media_type, where)
            raise DigestMismatchError(
                f"{where}: the manifest's digest is {digest}, expected {said or 'some content'}: "
                "the registry, or a proxy in between, changes content"
            )
        return FetchedManifest(content, media_type, digest)

    def open_blob(self, repository: str, blob: Descriptor, offset: int) -> Answer:
        """Request a blob's bytes from *offset* on; the status is 200, with an offset also 206 or one of ODD_STATUSES.

        Raises:
            TransientError: a retry may help.
            SourceError: it is not available.
        """
        if offset == 0:
            return self._open(f"/v2/{repository}/blobs/{blob.digest}", repository, {}, frozenset((200,)))
        return self.open_range(repository, blob.digest, offset, blob.size - offset)

    def open_range(self, repository: str, digest: Digest, offset: int, size: int) -> Answer:
        """Request *size* bytes of a blob from *offset* on; the status is 206, or 200 or one of ODD_STATUSES without ranges.

        Raises:
            TransientError: a retry may help.
            SourceError: it is not available.
        """
        # Always with an end: go-containerregistry's registry refuses open ranges.
        headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
        return self._open(f"/v2/{repository}/blobs/{digest}", repository, headers, ODD_STATUSES | {200, 206})

    def _open(self, path: str, repository: str, headers: dict[str, str], wanted: frozenset[int]) -> Answer:
        """One GET, authorized here and at other registries that it is redirected to; an expired token is renewed once.

        Raises:
            TransientError: a retry may help.
            SourceError: a retry would not help.
        """
        url = self._base() + path
        answer = self._get(url, headers)
        refused: set[tuple[str, str, int]] = set()
        while answer.status == 401 and origin(answer.url) not in refused and self._learn(answer):
            refused.add(origin(answer.url))
            answer.discard()
            self._renew(answer)
            answer = self._get(url, headers)
        if answer.status in wanted:
            return answer
        with closing(answer):
            raise self._failure(answer, path)

    def _get(self, url: str, headers: dict[str, str]) -> Answer:
        given = self._authorization(url)
        extra = {"Authorization": given} if given else {}
        return self._transport.fetch("GET", url, {**headers, **extra}, elsewhere=self._authorization)

    def _authorization(self, url: str) -> str | None:
        """The Authorization header for *url*; None for none, as for hosts that are not registries.

        Without credentials, a registry that refuses an anonymous token is asked all the same: its images may be public.
        """
        login, scope = self._login(url), _SCOPE.fullmatch(urlsplit(url).path)
        if login is None or scope is None:
            return None
        try:
            return self._header(login, url, scope[1])
        except AuthenticationError:
            if login.knows():
                raise
            return None

    def _renew(self, answer: Answer) -> None:
        """Get a new token after *answer*, a refusal, for the next request."""
        login, scope = self._login(answer.url), _SCOPE.fullmatch(urlsplit(answer.url).path)
        if login is not None and scope is not None:
            self._header(login, answer.url, scope[1], answer.authorization or "")

    def _header(self, login: Authenticator, url: str, repository: str, refused: str | None = None) -> str | None:
        plain_http = url.startswith("http:")
        with self._logins_lock:
            named_from = self._zones[origin(url)]
        exchange = partial(self._exchange, named_from)
        return login.header(f"repository:{repository}:pull", exchange, plain_http=plain_http, refused=refused)

    def _login(self, url: str) -> Authenticator | None:
        with self._logins_lock:
            return self._logins.get(origin(url))

    def _learn(self, answer: Answer) -> bool:
        """Store the challenges of *answer*, a 401; returns whether it is from a registry.

        Another registry, to which this one redirects, gets the credentials for itself, never those for this one.
        """
        if answer.foreign and _API.match(urlsplit(answer.url).path) is None:
            return False
        challenges = parse_challenges(answer.headers("WWW-Authenticate"))
        with self._logins_lock:
            login = self._logins.get(origin(answer.url))
            if login is None and not challenges:
                return False
            if login is None:
                domain = self.domain if not answer.foreign else _domain_of(answer.url)
                provider = self._options.token_provider if not answer.foreign else None
                login = self._logins[origin(answer.url)] = Authenticator(domain, self._options.credentials, provider)
            self._zones[origin(answer.url)] = answer.zone
        login.learn(challenges)
        return True

    def _failure(self, answer: Answer, path: str) -> Exception:
        where = shown(answer.url)
        status = f"status {answer.status}{_codes(answer)}"
        if answer.status >= 500 or answer.status in _PASSING:
            return TransientError(
                f"{where} answers {status}" if answer.foreign else f"the registry answers {status}",
                parse_retry_after(answer.header("Retry-After")),
                status=answer.status,
            )
        login = self._login(answer.url)
        if answer.foreign and login is None and answer.status in (401, 403):
            # An expired signed URL; the registry gives a new one on the next request.
            return TransientError(f"{where} answers {status}")
        if answer.status in (401, 403):
            return AuthenticationError(
                f"{where}: access denied ({status}): the repository does not exist, or needs other credentials; "
                f"{login.advice() if login is not None else f'run: docker login {self.domain}'}"
            )
        if answer.status == 404:
            what = "image" if "/manifests/" in path else "blob"
            private = "" if login is None or login.knows() else f". If it is not public, {login.advice()}"
            return ImageNotFoundError(
                f"{where}: the registry has no such {what} ({status}); check its name and tag{private}"
            )
        return TransferError(f"{where}: the registry answers {status}; a retry would not help")

    def _exchange(self, named_from: Zone, request: TokenRequest) -> TokenAnswer:
        patience = self.patience(shown(request.url))
        while True:
            try:
                answer = self._transport.fetch(
                    request.method, request.url, request.headers, request.body, named_from=named_from
                )
                with closing(answer):
                    if answer.status >= 500 or answer.status in _PASSING:
                        raise TransientError(
                            f"the token server answers status {answer.status}",
                            parse_retry_after(answer.header("Retry-After")),
                        )
                    content = answer.read_all(_MAX_TOKEN_BYTES)
                    return TokenAnswer(answer.status, content)
            except TransientError as failure:
                patience.failed(failure)

    def _base(self) -> str:
        """Scheme and host of the registry; probed once if plain http is allowed."""
        with self._lock:
            if self._found_base is None:
                self._found_base = self._find_base()
            return self._found_base

    def _find_base(self) -> str:
        if self.domain == DEFAULT_DOMAIN:
            return self._first_that_answers(f"https://{_DOCKER_HUB}")
        host = urlsplit(f"//{self.domain}").hostname or ""
        https, http = f"https://{self.domain}", f"http://{self.domain}"
        if is_loopback(host):
            # http first: nothing leaves the machine, no secret is sent yet, and a plain http server may wait for a line end
            # that a TLS handshake does not have.
            return self._first_that_answers(http, https)
        if is_listed(self.domain, self._options.insecure_registries):
            return self._first_that_answers(https, http)
        return self._first_that_answers(https)

    def _first_that_answers(self, *bases: str) -> str:
        reasons: list[str] = []
        lasting: TransferError | None = None
        for base in bases:
            try:
                self._greet(base)
            except _BusyError:
                raise
            except TransientError as failure:
                reasons.append(failure.reason if len(bases) == 1 else f"{base}: {failure.reason}")
            except TransferError as error:
                advice = ""
                if isinstance(error, PlainHttpError) and len(bases) == 1:
                    advice = f". Allow that with --insecure-registry {self.domain} if you trust the network"
                reasons.append(f"{error}{advice}")
                lasting = error
            else:
                return base
        if lasting is not None:
            raise TransferError("; ".join(reasons)) from lasting
        raise TransientError("; ".join(reasons))

    def _greet(self, base: str) -> None:
        """Request ``/v2/`` of *base*, as docker does first, and store its challenges: for other paths some registries answer
        404 or 403 to anonymous users. A redirect to another registry is followed.

        Raises:
            TransientError: it is not a registry (an https server answers 400).
            _BusyError: it is a registry that cannot answer now.
        """
        answer = self._transport.fetch("GET", f"{base}/v2/", {})
        learned = answer.status == 401 and self._learn(answer)
        answer.discard()
        if answer.status == 400 or (answer.foreign and answer.status != 200 and not learned):
            raise TransientError(f"no registry answers there (status {answer.status})")
        if answer.status >= 500 or answer.status in _PASSING:
            # A registry that answers other requests is used all the same.
            self._greetings += 1
            if self._greetings < _GREETINGS:
                raise _BusyError(
                    f"the registry answers status {answer.status}", parse_retry_after(answer.header("Retry-After"))
                )


def _domain_of(url: str) -> str:
    """The domain of the registry at *url*, as in references and logins."""
    _, host, port = origin(url)
    if host == _DOCKER_HUB:
        return DEFAULT_DOMAIN
    host = f"[{host}]" if ":" in host else host
    return host if port in (80, 443) else f"{host}:{port}"


def _codes(answer: Answer) -> str:
    """The registry's error codes. Without its messages: free text, which may repeat a token."""
    try:
        raw = decode_go(answer.read_all(_MAX_ERROR_BYTES, 10.0), _RawErrors, first=True)
    except (TransientError, TransferError, JsonError):
        return ""
    codes = [error.code for error in (raw.errors or ())[:4] if _ERROR_CODE.fullmatch(error.code)]
    return f", {', '.join(codes)}" if codes else ""
