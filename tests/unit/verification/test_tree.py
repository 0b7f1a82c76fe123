"""Names of a layer's tar as paths in its directory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.layers.tarsplit import clean_name
from drypoint.verification.tree import path_below


@given(st.lists(st.sampled_from([b"a", b".", b"..", b"...", b".a", b"", b"a.b", b"/"])).map(b"/".join))
def test_names_mean_what_they_mean_in_a_chroot(name: bytes) -> None:
    assert path_below(clean_name(name)) == clean_name(b"/" + name)[1:]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"./a/b/", b"a/b"),
        (b"../../a", b"a"),
        (b"a/../../b", b"b"),
        (b"/a", b"a"),
        (b"..", b""),
        (b"", b""),
        (b".a", b".a"),
    ],
)
def test_the_root_is_above_nothing(name: bytes, path: bytes) -> None:
    assert path_below(clean_name(name)) == path
