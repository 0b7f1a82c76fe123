"""Limits for layers: above every real image, and low enough that a hostile one cannot exhaust the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from .errors import UsageError

_NUMBER = re.compile(r"(\d{1,18})([kmgt]?)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest layers that are accepted. Memory grows with the entries of a layer and their metadata, so both are bounded.

    Attributes:
        entries: entries of one layer's tar, with the directories that it does not list but that its paths imply.
        metadata_bytes: bytes of one layer's names, link targets and extended attributes, and of its directories' whole paths.
        tar_bytes: bytes of one layer's tar, uncompressed.
        zstd_window: bytes of history that a layer's zstd stream may refer to, for which memory is needed; the default is that
            of ``zstd -d``. The engine accepts 512 MiB.
        seconds: time for all layers of a job, from the first request on.
    """

    entries: int = 2_000_000
    metadata_bytes: int = 128 << 20
    tar_bytes: int = 1 << 40
    zstd_window: int = 128 << 20
    seconds: int = 7 * 24 * 3600


DEFAULT_LIMITS = Limits()
LIMIT_NAMES = tuple(name.replace("_", "-") for name in Limits.__struct_fields__)


def parse_limits(texts: Iterable[str]) -> Limits:
    """The limits that *texts* set, each ``NAME=NUMBER``, a number of 1024s with K, M, G or T; the others are the defaults.

    Raises:
        UsageError: a text is malformed.
    """
    limits = DEFAULT_LIMITS
    for text in texts:
        name, _, value = text.partition("=")
        number = _NUMBER.fullmatch(value)
        if name not in LIMIT_NAMES or number is None or not int(number[1]):
            raise UsageError(
                f"--limit {text[:60]!r}: expected NAME=NUMBER with one of the names {', '.join(LIMIT_NAMES)}, as in "
                "entries=5M"
            )
        limits = replace(limits, **{name.replace("-", "_"): int(number[1]) * _FACTORS[number[2].lower()]})
    return limits


def raise_hint(name: str) -> str:
    """How to raise the limit *name*, for the end of a message."""
    return f"--limit {name}=NUMBER raises that, if the image is to be trusted"
