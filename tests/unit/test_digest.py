from __future__ import annotations

import hashlib

import pytest

from drypoint.digest import digest_of, hex_of, parse_digest
from drypoint.errors import ContentError


def test_round_trip() -> None:
    digest = digest_of(b"abc")
    assert digest == "sha256:" + hashlib.sha256(b"abc").hexdigest()
    assert parse_digest(digest) == digest
    assert hex_of(digest) == hashlib.sha256(b"abc").hexdigest()
    assert digest_of(memoryview(b"abc")) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "a" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha512:" + "a" * 128,
        " sha256:" + "a" * 64,
        "sha256:" + "٣" * 64,
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ContentError, match="is not a digest"):
        parse_digest(text)


def test_the_message_is_bounded() -> None:
    with pytest.raises(ContentError) as caught:
        parse_digest("x" * 1_000_000)
    assert len(str(caught.value)) < 300
