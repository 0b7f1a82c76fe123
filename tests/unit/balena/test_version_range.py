"""Ranges of versions, by what node-semver 7.8.6 makes of them."""

from __future__ import annotations

import pytest

from drypoint.balena.version_range import satisfies


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("", [(0, 0, 0), (16, 1, 10)], []),
        ("*", [(16, 1, 10)], []),
        ("16", [(16, 0, 0), (16, 9, 9)], [(15, 9, 9), (17, 0, 0)]),
        ("=v16.1.x", [(16, 1, 10)], [(16, 2, 0)]),
        ("16.1.10", [(16, 1, 10)], [(16, 1, 9), (16, 1, 11)]),
        (">=16", [(16, 0, 0), (99, 0, 0)], [(15, 99, 99)]),
        (">16", [(17, 0, 0)], [(16, 99, 99)]),
        (">16.1.10", [(16, 1, 11)], [(16, 1, 10)]),
        ("<16", [(15, 99, 99)], [(16, 0, 0)]),
        ("<=16", [(16, 99, 99)], [(17, 0, 0)]),
        ("<=16.1.10", [(16, 1, 10)], [(16, 1, 11)]),
        ("~16", [(16, 9, 9)], [(17, 0, 0)]),
        ("~>16.1.2", [(16, 1, 2), (16, 1, 9)], [(16, 1, 1), (16, 2, 0)]),
        ("^16.1.2", [(16, 1, 2), (16, 9, 9)], [(16, 1, 1), (17, 0, 0)]),
        ("^0.2.3", [(0, 2, 3), (0, 2, 9)], [(0, 3, 0), (0, 2, 2)]),
        ("^0.0.3", [(0, 0, 3)], [(0, 0, 4)]),
        ("^0", [(0, 9, 9)], [(1, 0, 0)]),
        (">= 14.2  < 16", [(14, 2, 0), (15, 9, 9)], [(14, 1, 9), (16, 0, 0)]),
        ("12 - 14.1", [(12, 0, 0), (14, 1, 9)], [(11, 9, 9), (14, 2, 0)]),
        ("12.1.1 - 14.1.1", [(12, 1, 1), (14, 1, 1)], [(12, 1, 0), (14, 1, 2)]),
        ("<12 || >=16.1.10", [(11, 0, 0), (16, 1, 10)], [(12, 0, 0), (16, 1, 9)]),
    ],
)
def test_ranges(text: str, inside: list[tuple[int, int, int]], outside: list[tuple[int, int, int]]) -> None:
    assert [satisfies(version, text) for version in inside] == [True] * len(inside)
    assert [satisfies(version, text) for version in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    "text", [">=16.0.0-rc.1", "16.1.10+rev1", "x.1", "latest", "1.2.3.4", ">>1", "1 || next", "1" * 300]
)
def test_what_is_not_read_is_not_decided(text: str) -> None:
    assert satisfies((16, 1, 10), text) is None
