"""Signing tokens for a real registry: a key, its certificate, and JWTs.

Format: RFC 7515 and 7519 with RS256, and the claims of Docker's registry (distribution, docs/spec/auth/jwt.md). The
certificate is sent in the header (``x5c``); the registry checks it against its ``rootcertbundle``.
"""

from __future__ import annotations

import base64
import tempfile
from functools import cache
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.certificates import self_signed


class TokenSigner:
    """A key for a test; ``certificate`` is a PEM file. A context manager."""

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


def untrusted(claims: dict[str, object]) -> str:
    """A JWT with *claims*, signed as open-balena-api signs, by a key that no registry knows."""
    return jwt.encode(claims, _untrusted_key(), algorithm="ES256", headers={"kid": "none"})


@cache
def _untrusted_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
