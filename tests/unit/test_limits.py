"""Limits as the command line sets them."""

from __future__ import annotations

import pytest

from drypoint.errors import UsageError
from drypoint.limits import DEFAULT_LIMITS, Limits, parse_limits


def test_each_limit_has_a_name_and_a_number() -> None:
    assert parse_limits([]) == DEFAULT_LIMITS
    assert parse_limits(["entries=5M", "zstd-window=512m", "entries=7"]) == Limits(entries=7, zstd_window=512 << 20)
    assert parse_limits(["tar-bytes=1T", "metadata-bytes=1G", "seconds=60"]) == Limits(
        tar_bytes=1 << 40, metadata_bytes=1 << 30, seconds=60
    )


@pytest.mark.parametrize(
    "text", ["entries", "entries=", "entries=0", "entries=-1", "=5", "entrys=5", "seconds=1.5", "x=1k"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected NAME=NUMBER with one of the names entries, metadata-bytes"):
        parse_limits([text])
