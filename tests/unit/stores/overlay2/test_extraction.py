"""Layers as trees. What is expected here is what dockerd 20.10.24 left under diff/ for the same tar entries."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint.errors import LayerError
from drypoint.fstree import CharDevice, Content, Directory, Fifo, HardLink, Metadata, Regular, Symlink
from drypoint.layers import Add, Change, Link, Opaque, Whiteout
from drypoint.limits import Limits
from drypoint.sinks.memory import MemoryTree
from drypoint.stores import AppliedLayer
from drypoint.stores.overlay2 import apply_changes

NOW = 5_000_000_000
CAPABILITY = (b"security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
OPAQUE = (b"trusted.overlay.opaque", b"y")
ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"


def meta(mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 1, **xattrs: bytes) -> Metadata:
    return Metadata(mode, uid, gid, mtime, tuple(sorted((k.replace("_", ".").encode(), v) for k, v in xattrs.items())))


def file(path: bytes, content: bytes = b"x", metadata: Metadata | None = None) -> tuple[Change, Content | None]:
    return Add(Regular(path, metadata or meta(), len(content))), (content,)


def directory(path: bytes, metadata: Metadata | None = None) -> tuple[Change, Content | None]:
    return Add(Directory(path, metadata or meta(0o755))), None


def symlink(path: bytes, target: bytes, metadata: Metadata | None = None) -> tuple[Change, Content | None]:
    return Add(Symlink(path, metadata or meta(0o777), target)), None


def link(path: bytes, target: bytes, metadata: Metadata | None = None) -> tuple[Change, Content | None]:
    return Link(path, target, metadata or meta()), None


def whiteout(path: bytes, metadata: Metadata | None = None) -> tuple[Change, Content | None]:
    return Whiteout(path, metadata or meta(0)), None


def opaque(path: bytes) -> tuple[Change, Content | None]:
    return Opaque(path), None


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def apply(*changes: tuple[Change, Content | None]) -> tuple[MemoryTree, AppliedLayer]:
    tree = MemoryTree()
    tree.add(Directory(b"diff", Metadata(0o755, mtime=NOW)))
    return tree, apply_changes(changes, tree, b"diff", NOW)


def metadata_at(tree: MemoryTree, path: bytes) -> Metadata:
    stat = tree.lookup(path)
    assert stat is not None, path
    assert not isinstance(stat.entry, HardLink)
    return stat.entry.metadata


def paths(tree: MemoryTree) -> list[bytes]:
    return [stat.entry.path.removeprefix(b"diff/") for stat in tree.walk() if stat.entry.path != b"diff"]


def test_directory_that_no_entry_names_belongs_to_root_and_takes_its_own_entry_later() -> None:
    tree, applied = apply(file(b"a/b/c", b"12"), directory(b"a", meta(0o700, 5, 6, 7)))
    assert metadata_at(tree, b"diff/a") == meta(0o700, 5, 6, 7)
    assert metadata_at(tree, b"diff/a/b") == Metadata(0o755, mtime=NOW)
    assert applied == AppliedLayer(size=2, entries=2, inodes=3)


def test_entry_for_the_root_itself() -> None:
    tree, _ = apply(directory(b"", meta(0o700, 7, 7, 7)), file(b"x"))
    assert metadata_at(tree, b"diff") == meta(0o700, 7, 7, 7)


def test_directory_over_directory_keeps_old_xattrs_and_content() -> None:
    tree, _ = apply(
        directory(b"a", meta(0o755, 1, 1, 1, user_one=b"1")),
        file(b"a/f"),
        directory(b"a", meta(0o711, 2, 2, 2, user_two=b"2")),
    )
    assert metadata_at(tree, b"diff/a") == meta(0o711, 2, 2, 2, user_one=b"1", user_two=b"2")
    assert paths(tree) == [b"a", b"a/f"]


def test_file_over_directory_takes_the_place_and_then_the_time_of_it() -> None:
    tree, applied = apply(
        directory(b"a", meta(0o755, mtime=1)), file(b"a/f", b"123"), file(b"a", b"12", meta(mtime=99))
    )
    assert metadata_at(tree, b"diff/a") == meta(mtime=1)
    assert paths(tree) == [b"a"]
    assert applied.size == 2


def test_replaced_directory_that_holds_named_ones_is_refused() -> None:
    with pytest.raises(LayerError, match=r"a/b"):
        apply(directory(b"a"), directory(b"a/b"), file(b"a"))


def test_directory_over_file() -> None:
    tree, applied = apply(file(b"a", b"123"), directory(b"a", meta(0o755, mtime=2)), file(b"a/z", b"4"))
    assert metadata_at(tree, b"diff/a") == meta(0o755, mtime=2)
    assert applied.size == 1


def test_symbolic_links_lead_through_the_layer_as_in_a_chroot() -> None:
    tree, applied = apply(
        directory(b"r"),
        symlink(b"l", b"r"),
        file(b"l/x"),
        file(b"l/new/y"),
        symlink(b"abs", b"/r/new"),
        file(b"abs/q"),
        symlink(b"up", b"../../../r"),
        file(b"up/u"),
    )
    assert paths(tree) == [b"abs", b"l", b"r", b"r/new", b"r/new/q", b"r/new/y", b"r/u", b"r/x", b"up"]
    assert applied.size == 21


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([symlink(b"l", b"nowhere"), file(b"l/x")], id="dangling"),
        pytest.param([symlink(b"l", b"nowhere"), file(b"l/x/y")], id="dangling, deeper"),
        pytest.param([symlink(b"l", b"m"), symlink(b"m", b"l"), file(b"l/x")], id="loop"),
        pytest.param([file(b"a"), file(b"a/b")], id="below a file"),
        pytest.param([file(b"a"), file(b"a/b/c")], id="far below a file"),
        pytest.param([file(b"f"), symlink(b"l", b"f/"), file(b"l/x")], id="file with a slash"),
        pytest.param([symlink(b"a", b"/"), file(b"a/a")], id="a path through what it replaces"),
        pytest.param([file(b"a"), whiteout(b"a")], id="whiteout of the layer's own file"),
        pytest.param([whiteout(b"")], id="whiteout of the root"),
        pytest.param([link(b"b", b"a")], id="link to nothing"),
        pytest.param([link(b"b", b"")], id="link to the root"),
        pytest.param([file(b"b"), link(b"b", b"b")], id="link to itself"),
        pytest.param([directory(b"a"), link(b"b", b"a")], id="link to a directory"),
        pytest.param([(Add(Symlink(b"", meta(), b"x")), None)], id="root as a symbolic link"),
        pytest.param([file(b"n" * 256)], id="long name"),
        pytest.param([file(b"n" * 256 + b"/x")], id="long name of a directory"),
        pytest.param([file(b"/".join([b"n" * 200] * 20))], id="long path"),
        pytest.param([file(b"a", metadata=meta(security_capability=b"zz"))], id="capability"),
        pytest.param([file(b"a", metadata=Metadata(0o644, xattrs=((ACCESS, b"zz"),)))], id="access list"),
        pytest.param(
            [file(b"a", metadata=Metadata(0o644, xattrs=((DEFAULT, acl((1, 6, 0), (4, 4, 0), (32, 4, 0))),)))],
            id="default access list of a file",
        ),
        pytest.param(
            [file(b"a", metadata=Metadata(0o644, xattrs=((ACCESS, acl((4, 4, 0), (1, 6, 0), (32, 4, 0))),)))],
            id="access list out of order",
        ),
    ],
)
def test_refused_as_the_engine_refuses(changes: list[tuple[Change, Content | None]]) -> None:
    with pytest.raises(LayerError, match=r"entry b'"):
        apply(*changes)


@pytest.mark.parametrize(("links", "accepted"), [(40, True), (41, False)])
def test_forty_symbolic_links_are_followed(links: int, accepted: bool) -> None:
    changes = [directory(b"d"), *(symlink(b"l%d" % n, b"l%d" % (n - 1) if n else b"d") for n in range(links))]
    changes.append(file(b"l%d/x" % (links - 1)))
    if accepted:
        assert b"d/x" in paths(apply(*changes)[0])
    else:
        with pytest.raises(LayerError, match="too many levels"):
            apply(*changes)


def test_whiteout_is_a_device_without_permissions() -> None:
    tree, applied = apply(whiteout(b"d/a", meta(0o755, 3, 4, 5)))
    stat = tree.lookup(b"diff/d/a")
    assert stat is not None
    assert stat.entry == CharDevice(b"diff/d/a", Metadata(0, 3, 4, NOW), 0, 0)
    assert applied.size == 0


def test_file_replaces_its_whiteout() -> None:
    tree, _ = apply(whiteout(b"a"), file(b"a", b"1"))
    assert tree.content(b"diff/a") == b"1"


def test_whiteout_removes_what_has_its_own_name() -> None:
    assert paths(apply(whiteout(b".wh.plnk"), whiteout(b"plnk"))[0]) == [b"plnk"]


def test_opaque_marks_a_directory_before_during_and_after_its_own_entry() -> None:
    tree, _ = apply(opaque(b"a"), directory(b"b", meta(0o755, user_k=b"v")), file(b"b/f"), opaque(b"b"), opaque(b""))
    assert metadata_at(tree, b"diff/a") == Metadata(0o755, mtime=NOW, xattrs=(OPAQUE,))
    assert metadata_at(tree, b"diff/b").xattrs == (OPAQUE, (b"user.k", b"v"))
    assert metadata_at(tree, b"diff").xattrs == (OPAQUE,)
    assert paths(tree) == [b"a", b"b", b"b/f"]
    tree, _ = apply(opaque(b"a"), directory(b"a", meta(0o700, mtime=3)))
    assert metadata_at(tree, b"diff/a") == Metadata(0o700, mtime=3, xattrs=(OPAQUE,))


def test_opaque_follows_a_symbolic_link_and_lands_on_files_too() -> None:
    tree, _ = apply(directory(b"r"), symlink(b"l", b"r"), opaque(b"l"), file(b"f"), opaque(b"f"))
    assert metadata_at(tree, b"diff/r").xattrs == (OPAQUE,)
    assert metadata_at(tree, b"diff/l").xattrs == ()
    assert metadata_at(tree, b"diff/f").xattrs == (OPAQUE,)


def test_hard_link_gives_its_own_metadata_to_the_file_and_takes_the_capability() -> None:
    first = Metadata(0o4755, 1, 1, 10, (CAPABILITY, (b"user.q", b"1")))
    tree, applied = apply(file(b"a", b"12345", first), link(b"b", b"a", meta(0o600, 2, 3, 20)))
    a, b = tree.lookup(b"diff/a"), tree.lookup(b"diff/b")
    assert a is not None
    assert b is not None
    assert (a.inode, a.links) == (b.inode, 2)
    assert metadata_at(tree, b"diff/a") == Metadata(0o600, 2, 3, 20, ((b"user.q", b"1"),))
    assert applied == AppliedLayer(size=5, entries=2, inodes=1)


def test_hard_link_whose_header_has_the_capability_keeps_it() -> None:
    with_it = Metadata(0o755, xattrs=(CAPABILITY,))
    tree, _ = apply(file(b"a", b"1", with_it), link(b"b", b"a", with_it))
    assert metadata_at(tree, b"diff/a").xattrs == (CAPABILITY,)


def test_hard_link_to_a_symbolic_link_changes_its_owner_only() -> None:
    tree, applied = apply(symlink(b"a", b"target", meta(0o777, 1, 0, 10)), link(b"b", b"a", meta(0o600, 2, 3, 20)))
    assert metadata_at(tree, b"diff/a") == meta(0o777, 2, 3, 10)
    assert applied.size == 6


def test_hard_link_through_a_symbolic_link() -> None:
    tree, _ = apply(directory(b"r"), file(b"r/a"), symlink(b"l", b"r"), link(b"b", b"l/a"), link(b"l/k", b"r/a"))
    stat = tree.lookup(b"diff/r/k")
    assert stat is not None
    assert stat.links == 3


def test_size_counts_an_inode_until_its_last_name_is_gone() -> None:
    first, second, third = file(b"a", b"123"), link(b"b", b"a"), file(b"a", b"1234567")
    assert apply(first, second)[1].size == 3
    assert apply(first, second, third)[1].size == 10
    assert apply(first, second, third, file(b"b", b""))[1].size == 7


def test_xattrs_of_users_stay_on_files_and_directories_only() -> None:
    both = meta(0o644, user_k=b"1", trusted_k=b"2")
    tree, _ = apply((Add(Fifo(b"p", both)), None), file(b"f", metadata=both), link(b"q", b"p", both))
    assert metadata_at(tree, b"diff/p").xattrs == ((b"trusted.k", b"2"),)
    assert metadata_at(tree, b"diff/f").xattrs == both.xattrs


def test_directory_made_below_a_set_group_id_directory_takes_the_bit() -> None:
    tree, _ = apply(directory(b"a", meta(0o2755, 0, 5)), file(b"a/b/c"))
    assert metadata_at(tree, b"diff/a/b") == Metadata(0o2755, mtime=NOW)


def test_access_lists_follow_the_mode_and_default_ones_are_inherited() -> None:
    full = acl((1, 7, 0xFFFFFFFF), (2, 5, 1000), (4, 4, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))

    def with_bits(user: int, mask: int, other: int) -> bytes:
        none = 0xFFFFFFFF
        return acl((1, user, none), (2, 5, 1000), (4, 4, none), (16, mask, none), (32, other, none))

    tree, _ = apply(
        file(b"f", metadata=Metadata(0o640, xattrs=((ACCESS, full),))),
        file(b"m", metadata=Metadata(0o600, xattrs=((ACCESS, acl((1, 6, 0), (4, 4, 0), (32, 4, 0))),))),
        file(b"e", metadata=Metadata(0o600, xattrs=((ACCESS, acl()),))),
        directory(b"a", Metadata(0o755, xattrs=((DEFAULT, full),))),
        file(b"a/f", metadata=meta(0o644)),
        link(b"a/h", b"a/f", meta(0o600)),
        file(b"a/i/x"),
        symlink(b"a/s", b"x"),
        whiteout(b"a/w"),
    )
    assert metadata_at(tree, b"diff/f").xattrs == ((ACCESS, with_bits(6, 4, 0)),)
    assert metadata_at(tree, b"diff/m").xattrs == ()
    assert metadata_at(tree, b"diff/e").xattrs == ()
    assert metadata_at(tree, b"diff/a").xattrs == ((DEFAULT, full),)
    assert metadata_at(tree, b"diff/a/f").xattrs == ((ACCESS, with_bits(6, 0, 0)),)
    assert metadata_at(tree, b"diff/a/i").xattrs == ((ACCESS, with_bits(7, 5, 5)), (DEFAULT, full))
    assert metadata_at(tree, b"diff/a/i/x").xattrs == ((ACCESS, with_bits(6, 4, 4)),)
    assert metadata_at(tree, b"diff/a/s").xattrs == ()
    assert metadata_at(tree, b"diff/a/w").xattrs == ((ACCESS, with_bits(0, 0, 0)),)


_NAMES = st.sampled_from([b"a", b"b", b"c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(b"/".join)
_METADATA = st.builds(
    Metadata,
    st.sampled_from([0o644, 0o4755, 0o2755]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 9),
    st.sampled_from([(), (CAPABILITY,), ((b"user.k", b"v"),)]),
)
_CHANGES: st.SearchStrategy[tuple[Change, Content | None]] = st.one_of(
    st.builds(file, _PATHS, st.binary(max_size=5), _METADATA),
    st.builds(directory, _PATHS, _METADATA),
    st.builds(symlink, _PATHS, st.sampled_from([b"a", b"/b", b"..", b"../c", b"/", b"a/b"]), _METADATA),
    st.builds(link, _PATHS, _PATHS, _METADATA),
    st.builds(whiteout, _PATHS, _METADATA),
    st.builds(opaque, _PATHS),
)


@given(st.lists(_CHANGES, max_size=12))
def test_any_changes_give_a_tree_whose_size_is_what_is_told_or_are_refused(
    changes: Sequence[tuple[Change, Content | None]],
) -> None:
    """The strict sink convicts every entry in a place that is taken or missing; the size is counted anew."""
    try:
        tree, applied = apply(*changes)
    except LayerError:
        return
    inodes = {stat.inode: stat.entry for stat in tree.walk()}
    sizes = [
        e.size if isinstance(e, Regular) else len(e.target) for e in inodes.values() if isinstance(e, Regular | Symlink)
    ]
    assert applied.size == sum(sizes)


def outcome(changes: Sequence[tuple[Change, Content | None]]) -> object:
    try:
        tree, applied = apply(*changes)
    except LayerError as error:
        return str(error)
    return [stat.entry for stat in tree.walk()], applied


@settings(max_examples=300)
@given(st.lists(_CHANGES, max_size=16), st.sampled_from([1, 2, 1024]))
def test_directories_at_hand_change_nothing(changes: Sequence[tuple[Change, Content | None]], most: int) -> None:
    with patch("drypoint.stores.overlay2.extraction.LONGEST_DIRECT", -1):
        resolved_each_time = outcome(changes)
    with patch("drypoint.stores.overlay2.extraction.MOST_DIRECT", most):
        assert outcome(changes) == resolved_each_time


def test_directory_that_became_a_symbolic_link_is_not_found_by_its_old_path() -> None:
    tree, _ = apply(
        directory(b"a"),
        directory(b"a/b"),
        directory(b"c"),
        file(b"a/b/f"),
        file(b"c/g"),
        symlink(b"a/b", b"/c"),
        file(b"a/b/h"),
    )
    assert set(paths(tree)) == {b"a", b"a/b", b"c", b"c/g", b"c/h"}


@pytest.mark.parametrize(
    ("changes", "limits", "says"),
    [
        ([file(b"a"), file(b"b"), file(b"a")], Limits(entries=2), r"more than 2 entries.*--limit entries=NUMBER"),
        ([file(b"a/b/c/d")], Limits(entries=3), r"more than 3 entries, directories that are only in paths included"),
        ([directory(b"a"), file(b"a/b/c"), file(b"x/y")], Limits(entries=4), "more than 4 entries"),
        ([file(b"abcdef")], Limits(metadata_bytes=5), r"have more than 5 bytes; --limit metadata-bytes=NUMBER"),
        ([directory(b"ab"), directory(b"ab/cd"), file(b"e")], Limits(metadata_bytes=10), "have more than 10 bytes"),
        ([file(b"ab/cd/e")], Limits(metadata_bytes=6), "have more than 6 bytes"),
        ([symlink(b"a", b"target"), file(b"b")], Limits(metadata_bytes=7), "have more than 7 bytes"),
        (
            [file(b"a", metadata=meta(user_a=b"x" * 90)), file(b"b")],
            Limits(metadata_bytes=90),
            "have more than 90 bytes",
        ),
        ([whiteout(b"abcdef")], Limits(metadata_bytes=5), "have more than 5 bytes"),
    ],
)
def test_a_layer_has_limits(changes: list[tuple[Change, Content | None]], limits: Limits, says: str) -> None:
    with pytest.raises(LayerError, match=says):
        apply_changes(changes, MemoryTree(), b"", NOW, limits=limits)
    raised = Limits(entries=limits.entries + 1, metadata_bytes=limits.metadata_bytes + 100)
    apply_changes(changes, MemoryTree(), b"", NOW, limits=raised)
