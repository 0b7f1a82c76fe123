from __future__ import annotations

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drypoint.fstree import clean_path, join, parent_and_name

parts = st.lists(st.sampled_from([b"a", b"bb", b".", b"..", b"", b"\xff", b"..."]), max_size=8)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        (b"", b""),
        (b".", b""),
        (b"/", b""),
        (b"./", b""),
        (b"/a", b"a"),
        (b"./a", b"a"),
        (b"a/", b"a"),
        (b"x/../a", b"a"),
        (b"a//b", b"a/b"),
        (b"a/..", b""),
        (b"/..", b""),
        (b"/../../a", b"a"),
        (b"a/.../b", b"a/.../b"),
        (b"\xff/\n", b"\xff/\n"),
    ],
)
def test_clean_path(name: bytes, clean: bytes) -> None:
    assert clean_path(name) == clean


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/../../b", b"./..", b"a\0b"])
def test_clean_path_refuses(name: bytes) -> None:
    with pytest.raises(ValueError, match=r"leaves the root|NUL"):
        clean_path(name)


@given(parts, st.booleans())
@example([b"..", b"a"], True)
def test_clean_path_agrees_with_posix(names: list[bytes], rooted: bool) -> None:
    name = (b"/" if rooted else b"") + b"/".join(names)
    normal = posixpath.normpath(name).lstrip(b"/") if name else b""
    if normal == b".." or (not name.startswith(b"/") and normal.startswith(b"../")):
        with pytest.raises(ValueError, match="leaves"):
            clean_path(name)
    else:
        assert clean_path(name) == (b"" if normal == b"." else normal)


@given(parts.map(b"/".join))
def test_clean_paths_split_and_join_again(name: bytes) -> None:
    path = clean_path(b"/" + name)
    assert clean_path(path) == path
    if path:
        parent, last = parent_and_name(path)
        assert b"/" not in last
        assert join(parent, last) == path


def test_the_root_has_no_parent() -> None:
    assert parent_and_name(b"a") == (b"", b"a")
    with pytest.raises(ValueError, match="no parent"):
        parent_and_name(b"")


def test_join() -> None:
    assert join() == b""
    assert join(b"", b"a/b", b"", b"c") == b"a/b/c"
