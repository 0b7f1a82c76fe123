"""One registry: where it is, proving who asks, and what its answers mean.

Protocol: OCI distribution-spec 1.1, "Pull"; Docker Registry HTTP API V2.
"""

from __future__ import annotations

import re
import threading
from contextlib import closing
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
from ...oci.manifest import ACCEPTED_MANIFEST_TYPES, MAX_MANIFEST_BYTES
from ...oci.reference import DEFAULT_DOMAIN
from .address import is_listed, is_loopback, shown
from .auth import Authenticator, TokenAnswer, TokenRequest
from .challenge import parse_challenges
from .options import RegistryOptions
from .retry import Patience, TransientError, parse_retry_after
from .transport import Answer, Transport

_DOCKER_HUB = "registry-1.docker.io"
_MAX_TOKEN_BYTES = 1 << 20
_MAX_ERROR_BYTES = 64 << 10
_PASSING = frozenset((408, 425, 429))
_SCHEMA_1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
# Schema 1 is accepted here so that it can be refused by name: registries say "unknown manifest" otherwise.
_ACCEPT = ", ".join((*ACCEPTED_MANIFEST_TYPES, *_SCHEMA_1_TYPES))
_ERROR_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,39}")


class FetchedManifest(msgspec.Struct, frozen=True):
    """A manifest's exact bytes, checked against ``digest``, and the media type they were served with."""

    content: bytes
    media_type: str
    digest: Digest


class _RawError(msgspec.Struct):
    code: str = ""


class _RawErrors(msgspec.Struct):
    errors: list[_RawError] | None = None


class RegistryClient:
    """Asks one registry, for several threads at once.

    Args:
        domain: as in references.
        closing: set when no further waiting is wanted.
    """

    def __init__(self, domain: str, options: RegistryOptions, closing: threading.Event) -> None:
        self.domain = domain
        self._options = options
        self._closing = closing
        self._transport = Transport(domain, options)
        self._authenticator = Authenticator(domain, options.credentials, options.token_provider)
        self._lock = threading.Lock()
        self._found_base: str | None = None

    def close(self) -> None:
        self._transport.close()

    def patience(self, what: str, attempts: int | None = None) -> Patience:
        """A count of failures for one job at this registry; *attempts*: no more than so many in a row."""
        policy = self._options.retry
        if attempts is not None:
            policy = replace(policy, attempts=min(attempts, policy.attempts))
        return Patience(policy, what, self._closing)

    def fetch_manifest(self, repository: str, tag_or_digest: str) -> FetchedManifest:
        """The manifest that *tag_or_digest* names in *repository* (a path).

        Raises:
            SourceError: it cannot be had.
            DigestMismatchError: it is not what its digest says.
        """
        path = f"/v2/{repository}/manifests/{tag_or_digest}"
        answer, content = self._read(path, repository)
        digest = digest_of(content)
        said = tag_or_digest if ":" in tag_or_digest else (answer.header("Docker-Content-Digest") or "").strip()
        if said.startswith("sha256:") and said != digest:
            raise DigestMismatchError(
                f"{shown(answer.url)}: the manifest's digest is {digest}, expected {said[:80]}: "
                "the registry, or something on the way to it, changes content"
            )
        return FetchedManifest(content, answer.header("Content-Type") or "", digest)

    def open_blob(self, repository: str, digest: Digest, offset: int) -> Answer:
        """Ask for a blob's bytes from *offset* on; answers 200, 206 or 416.

        Raises:
            TransientError: worth another try.
            SourceError: it cannot be had.
        """
        path = f"/v2/{repository}/blobs/{digest}"
        if offset == 0:
            return self._open(path, repository, {}, (200,))
        return self._open(path, repository, {"Range": f"bytes={offset}-"}, (200, 206, 416))

    def open_range(self, repository: str, digest: Digest, offset: int, size: int) -> Answer:
        """Ask for *size* bytes of a blob from *offset* on; answers 206, or 200 or 416 where that cannot be had.

        Raises:
            TransientError: worth another try.
            SourceError: it cannot be had.
        """
        path = f"/v2/{repository}/blobs/{digest}"
        return self._open(path, repository, {"Range": f"bytes={offset}-{offset + size - 1}"}, (200, 206, 416))

    def _read(self, path: str, repository: str) -> tuple[Answer, bytes]:
        patience = self.patience(f"{self.domain}{path}")
        while True:
            try:
                answer = self._open(path, repository, {"Accept": _ACCEPT}, (200,))
                with closing(answer):
                    return answer, answer.read_all(MAX_MANIFEST_BYTES, self._options.request_timeout)
            except TransientError as failure:
                patience.failed(failure)

    def _open(self, path: str, repository: str, headers: dict[str, str], wanted: tuple[int, ...]) -> Answer:
        """One GET, authorized, redirects followed; a token that has lapsed is renewed once.

        Raises:
            TransientError: worth another try.
            SourceError: not worth one.
        """
        base = self._base()
        plain_http = base.startswith("http:")
        scope = f"repository:{repository}:pull"
        shown_header = self._authenticator.header(scope, self._exchange, plain_http=plain_http)
        answer = self._get(base + path, headers, shown_header)
        if answer.status == 401 and not answer.foreign:
            self._authenticator.learn(parse_challenges(answer.headers("WWW-Authenticate")))
            answer.discard()
            shown_header = self._authenticator.header(
                scope, self._exchange, plain_http=plain_http, refused=shown_header
            )
            answer = self._get(base + path, headers, shown_header)
        if answer.status in wanted:
            return answer
        with closing(answer):
            raise self._failure(answer, path)

    def _get(self, url: str, headers: dict[str, str], authorization: str | None) -> Answer:
        extra = {"Authorization": authorization} if authorization else {}
        return self._transport.fetch("GET", url, {**headers, **extra})

    def _failure(self, answer: Answer, path: str) -> Exception:
        where = shown(answer.url)
        status = f"status {answer.status}{_codes(answer)}"
        if answer.status >= 500 or answer.status in _PASSING:
            return TransientError(
                f"{where} answers {status}" if answer.foreign else f"the registry answers {status}",
                parse_retry_after(answer.header("Retry-After")),
            )
        if answer.foreign and answer.status in (401, 403):
            # A signed address that has lapsed; the registry gives a new one when it is asked again.
            return TransientError(f"{where} answers {status}")
        if answer.status in (401, 403):
            return AuthenticationError(
                f"{where}: access denied ({status}): the repository does not exist, or needs other credentials; "
                f"{self._authenticator.advice()}"
            )
        if answer.status == 404:
            what = "image" if "/manifests/" in path else "blob"
            return ImageNotFoundError(f"{where}: the registry has no such {what} ({status}); check its name and tag")
        return TransferError(f"{where}: the registry answers {status}, which trying again would not change")

    def _exchange(self, request: TokenRequest) -> TokenAnswer:
        patience = self.patience(shown(request.url))
        while True:
            try:
                answer = self._transport.fetch(request.method, request.url, request.headers, request.body)
                with closing(answer):
                    if answer.status >= 500 or answer.status in _PASSING:
                        raise TransientError(
                            f"the token server answers status {answer.status}",
                            parse_retry_after(answer.header("Retry-After")),
                        )
                    content = answer.read_all(_MAX_TOKEN_BYTES, self._options.request_timeout)
                    return TokenAnswer(answer.status, content)
            except TransientError as failure:
                patience.failed(failure)

    def _base(self) -> str:
        """Scheme and host of the registry; found out once, where plain http is possible at all."""
        with self._lock:
            if self._found_base is None:
                self._found_base = self._find_base()
            return self._found_base

    def _find_base(self) -> str:
        if self.domain == DEFAULT_DOMAIN:
            return f"https://{_DOCKER_HUB}"
        host = urlsplit(f"//{self.domain}").hostname or ""
        https, http = f"https://{self.domain}", f"http://{self.domain}"
        if is_loopback(host):
            # http first: nothing leaves the machine, no secret is sent yet, and a server of plain http may wait for
            # the end of a line that a TLS greeting does not have.
            return self._first_that_answers(http, https)
        if is_listed(self.domain, self._options.insecure_registries):
            return self._first_that_answers(https, http)
        return https

    def _first_that_answers(self, *bases: str) -> str:
        reasons, lasting = [], False
        for base in bases:
            try:
                self._greet(base)
            except TransientError as failure:
                reasons.append(f"{base}: {failure.reason}")
            except TransferError as error:
                reasons.append(str(error))
                lasting = True
            else:
                return base
        raise TransferError("; ".join(reasons)) if lasting else TransientError("; ".join(reasons))

    def _greet(self, base: str) -> None:
        """Ask *base* whether it is a registry; a redirect, or a server that says that it wants https, is none."""
        answer = self._transport.fetch("GET", f"{base}/v2/", {})
        if answer.status == 401 and not answer.foreign:
            self._authenticator.learn(parse_challenges(answer.headers("WWW-Authenticate")))
        answer.discard()
        if answer.foreign or answer.status == 400:
            raise TransientError(f"no registry answers there (status {answer.status})")


def _codes(answer: Answer) -> str:
    """The registry's own error codes. Its messages are left out: they are free text, which may repeat a token."""
    try:
        raw = decode_go(answer.read_all(_MAX_ERROR_BYTES, 10.0), _RawErrors, first=True)
    except (TransientError, TransferError, JsonError):
        return ""
    codes = [error.code for error in (raw.errors or ())[:4] if _ERROR_CODE.fullmatch(error.code)]
    return f", {', '.join(codes)}" if codes else ""
