"""Tokens that a real registry checks: a key, its certificate, and JWTs signed with it.

Format: RFC 7515 and 7519 with RS256, and the claims of Docker's registry (distribution, docs/spec/auth/jwt.md). The
certificate goes along in the header (``x5c``); the registry holds it against its ``rootcertbundle``.
"""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from pathlib import Path

from .tools import find_tool, run_tool


class TokenSigner:
    """A key made by openssl for the time of a test; ``certificate`` is a PEM file. A context manager."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="drypoint-tokens-")
        self._key = Path(self._directory.name) / "key.pem"
        self.certificate = Path(self._directory.name) / "certificate.pem"

    def __enter__(self) -> TokenSigner:
        run_tool(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens.example",
            "-keyout", self._key, "-out", self.certificate,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def sign(self, claims: dict[str, object]) -> str:
        """A JWT that says *claims*."""
        pem = self.certificate.read_text().split("-----")[2]
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split())]}
        signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
        done = subprocess.run(
            [find_tool("openssl"), "dgst", "-sha256", "-sign", self._key],
            input=signed.encode(), stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return f"{signed}.{encoded(done.stdout)}"


def unsigned(claims: dict[str, object]) -> str:
    """A token that says *claims*, for where nobody looks at the signature."""
    header = {"alg": "ES256", "typ": "JWT", "kid": "none"}
    return ".".join(encoded(part) for part in (json.dumps(header).encode(), json.dumps(claims).encode(), b"none"))


def encoded(content: bytes) -> str:
    """base64url without padding, as JWTs have it."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
