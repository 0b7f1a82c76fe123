from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.errors import UsageError
from drypoint.oci import Platform, parse_platform
from drypoint.oci.platform import preference, runs


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/arm64", Platform("linux", "arm64")),
        ("linux/arm64/v8", Platform("linux", "arm64")),
        ("Linux/AARCH64", Platform("linux", "arm64")),
        ("amd64", Platform("linux", "amd64")),
        ("x86_64", Platform("linux", "amd64")),
        ("linux/amd64/v3", Platform("linux", "amd64", "v3")),
        ("arm", Platform("linux", "arm", "v7")),
        ("linux/arm/6", Platform("linux", "arm", "v6")),
        ("armv7hf", Platform("linux", "arm", "v7")),
        ("rpi", Platform("linux", "arm", "v6")),
        ("armel", Platform("linux", "arm", "v6")),
        ("i386", Platform("linux", "386")),
        ("windows/amd64", Platform("windows", "amd64")),
        ("linux/newarch", Platform("linux", "newarch")),
    ],
)
def test_parse(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform


@pytest.mark.parametrize(
    "text", ["", "/", "linux/", "a/b/c/d", "linux", "sparc64x", "linux/a b", "linux/*", "x" * 1000]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_platform(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("wanted", "offered", "rank"),
    [
        ("linux/amd64", "linux/amd64", 0),
        ("linux/amd64", "linux/amd64/v1", 0),
        ("linux/amd64", "linux/x86_64", 0),
        ("linux/amd64", "linux/amd64/v2", None),
        ("linux/amd64/v3", "linux/amd64/v2", 1),
        ("linux/amd64/v3", "linux/amd64", 2),
        ("linux/amd64", "linux/386", None),
        ("linux/amd64", "windows/amd64", None),
        ("linux/arm64", "linux/arm64/v8", 0),
        ("linux/arm64", "linux/arm64/8", 0),
        ("linux/arm64", "linux/arm64/v9", None),
        ("linux/arm64", "linux/arm/v7", None),
        ("linux/arm64", "linux/arm/v8", None),
        ("linux/arm/v7", "linux/arm", 0),
        ("linux/arm/v7", "linux/arm/7", 0),
        ("linux/arm/v7", "linux/arm/v6", 1),
        ("linux/arm/v7", "linux/arm/v5", 2),
        ("linux/arm/v7", "linux/arm/v4", None),
        ("linux/arm/v7", "linux/arm/v8", None),
        ("linux/arm/v8", "linux/arm/v7", 1),
        ("linux/arm/v6", "linux/arm/v7", None),
        ("linux/arm/v6", "linux/arm", None),
    ],
)
def test_preference(wanted: str, offered: str, rank: int | None) -> None:
    assert preference(Platform(*wanted.split("/")), Platform(*offered.split("/"))) == rank


@pytest.mark.parametrize(
    ("machine", "image", "fits"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64", "linux/arm", True),
        ("linux/arm64", "linux/arm/v6", True),
        ("linux/arm64", "linux/amd64", False),
        ("linux/arm64", "windows/arm", False),
        ("linux/amd64", "linux/386", True),
        ("linux/386", "linux/amd64", False),
        ("linux/arm/v7", "linux/arm64", False),
        ("linux/arm/v7", "linux/arm/v6", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm/v6", "linux/arm", True),
    ],
)
def test_what_a_machine_runs(machine: str, image: str, fits: bool) -> None:
    assert runs(Platform(*machine.split("/")), Platform(*image.split("/"))) is fits


platforms = st.builds(
    Platform,
    st.sampled_from(["linux", "Linux", "windows"]),
    st.sampled_from(["arm", "arm64", "amd64", "aarch64", "armhf", "386", "ppc64le"]),
    st.sampled_from(["", "v1", "v5", "v6", "v7", "7", "v8", "8", "v9", "odd", "v10", "v99999999999"]),
)


@given(platforms, platforms)
def test_preference_is_zero_for_the_same_and_only_for_the_same(one: Platform, other: Platform) -> None:
    assert one.normalized().normalized() == one.normalized()
    assert (preference(one, other) == 0) == (one.normalized() == other.normalized())
    if preference(one, other):
        assert preference(other, one) is None
