"""Image references, as users write them and as the engine stores them.

Grammar: github.com/distribution/reference, reference.go. The familiar form of a name (``alpine``) is the one that
the engine records; its canonical form (``docker.io/library/alpine``) is the one in requests to a registry.
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from ..digest import Digest, parse_digest
from ..errors import ContentError, InvalidReferenceError

DEFAULT_DOMAIN = "docker.io"
_OFFICIAL_PREFIX = "library/"
_NAME_LIMIT = 255

_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BARE_HEX = re.compile(r"[a-f0-9]{64}")


class Reference(msgspec.Struct, frozen=True):
    """A named image: registry (``domain``), repository (``path``), and tag or digest.

    If neither is given, ``tag`` is ``latest``. With both, the digest decides what is fetched.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """The canonical name, ``docker.io/library/alpine``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as the engine records it, ``alpine``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        return self.path.removeprefix(_OFFICIAL_PREFIX) if self.path.count("/") == 1 else self.path

    @property
    def familiar(self) -> str:
        """The whole reference in its familiar form."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.familiar_name}{tag}{digest}"

    def with_digest(self, digest: Digest) -> Reference:
        """The reference to *digest* in the same repository, without a tag."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        return self.familiar


def parse_reference(text: str) -> Reference:
    """Parse *text* as ``docker pull`` does.

    Raises:
        InvalidReferenceError: it breaks the grammar, is too long, or is a bare image id.
    """
    shown = text if len(text) <= 300 else text[:300] + "…"
    if _BARE_HEX.fullmatch(text):
        raise InvalidReferenceError(f"{shown!r} is an image id, not a reference: give a repository name")
    rest, at, digest_text = text.partition("@")
    digest = None
    if at and not digest_text.startswith("sha256:"):
        # The text before it may be a user name and password, as in a URL: the message must not repeat it.
        raise InvalidReferenceError(
            "an image reference has '@' only before sha256:DIGEST; user names and passwords belong in ~/.docker/config.json "
            "(docker login)"
        )
    if at:
        try:
            digest = parse_digest(digest_text)
        except ContentError as error:
            raise InvalidReferenceError(f"image reference {shown!r}: {error}") from error
    domain, path_and_tag = _split_domain(rest)
    path, colon, tag = path_and_tag.partition(":")
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL_PREFIX + path
    if _DOMAIN.fullmatch(domain) is None or _PATH.fullmatch(path) is None:
        hint = " (repository names are lower-case)" if path.lower() != path else ""
        raise InvalidReferenceError(f"{shown!r} is not an image reference: expected NAME[:TAG][@sha256:DIGEST]{hint}")
    if colon and _TAG.fullmatch(tag) is None:
        raise InvalidReferenceError(f"image reference {shown!r}: {tag[:140]!r} is not a tag")
    if len(domain) + 1 + len(path) > _NAME_LIMIT:
        raise InvalidReferenceError(f"image reference {shown!r}: the name is longer than {_NAME_LIMIT} characters")
    if not colon and digest is None:
        return Reference(domain, path, "latest")
    return Reference(domain, path, tag if colon else None, digest)


def _split_domain(name: str) -> tuple[str, str]:
    """Docker's rule: a first part is a domain if it has a dot or a colon, or is ``localhost``.

    Engines from 24 on also take a first part with upper-case letters for a domain; for 20.10 it is an error, and so it is
    here: ``MyTeam/app`` is far more often a mistake than a host.
    """
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return (DEFAULT_DOMAIN if first == "index.docker.io" else first), rest
    return DEFAULT_DOMAIN, name
