"""Cache-ids and links: random in the engine, derived from the chain-id here, so that equal input gives equal bytes."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Container

from ...digest import Digest

LINK_LENGTH = 26
CACHE_ID = re.compile(r"[a-f0-9]{64}")
LINK = re.compile(r"[A-Z2-7]{26}")


def choose_cache_id(chain_id: Digest, taken: Container[str]) -> str:
    """64 lower-case hexadecimal digits that are not in *taken*."""
    attempt = 0
    while (word := _hash("cache-id", chain_id, attempt).hex()) in taken:
        attempt += 1
    return word


def choose_link(chain_id: Digest, taken: Container[str]) -> str:
    """26 characters of base32 that are not in *taken*."""
    attempt = 0
    while (word := base64.b32encode(_hash("link", chain_id, attempt)).decode("ascii")[:LINK_LENGTH]) in taken:
        attempt += 1
    return word


def _hash(purpose: str, chain_id: Digest, attempt: int) -> bytes:
    return hashlib.sha256(f"drypoint {purpose}\n{chain_id}\n{attempt}\n".encode("ascii")).digest()
