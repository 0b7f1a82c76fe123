"""Tokens that a real registry checks: a key, its certificate, and JWTs signed with it.

Format: RFC 7515 and 7519 with RS256, and the claims of Docker's registry (distribution, docs/spec/auth/jwt.md). The
certificate is sent in the header (``x5c``); the registry checks it against its ``rootcertbundle``.
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.serialization import Encoding

from .certificates import self_signed


class TokenSigner:
    """A key made for the time of a test; ``certificate`` is a PEM file. A context manager."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="drypoint-tokens-")
        self._certified = self_signed("tokens.example")
        self.certificate, self._key = self._certified.write(Path(self._directory.name), "tokens")

    def __enter__(self) -> TokenSigner:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def sign(self, claims: dict[str, object]) -> str:
        """A JWT with *claims*."""
        der = self._certified.certificate.public_bytes(Encoding.DER)
        headers = {"x5c": [base64.b64encode(der).decode()]}
        return jwt.encode(claims, self._key.read_bytes(), algorithm="RS256", headers=headers)


def unsigned(claims: dict[str, object]) -> str:
    """A JWT with *claims* and without a signature, for servers that do not check it."""
    return jwt.encode(claims, "", algorithm="none")
