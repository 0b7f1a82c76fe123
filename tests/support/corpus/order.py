"""Cases of order: whiteouts, parents after children, repeated paths."""

from __future__ import annotations

from tests.support.corpus.case import SECONDS, Case, case, layer

from drypoint.sinks.tar import UstarHeader


def _base() -> bytes:
    return (
        layer().directory("d").file("d/a", b"1").file("d/b", b"2").directory("d/e").file("d/e/f").file("top").finish()
    )


def _wh(name: bytes, typeflag: bytes, linkname: bytes = b"") -> bytes:
    return UstarHeader(name, typeflag, mode=0o755, seconds=SECONDS, linkname=linkname).pack()


ORDER: tuple[Case, ...] = (
    case("only-whiteouts", "a layer with nothing but whiteouts", _base(), layer().whiteout("d/a").whiteout("top")),
    case(
        "whiteout-of-nothing",
        "whiteouts of what is not there, in a directory that is not there",
        _base(),
        layer().whiteout("gone").whiteout("no/such/thing"),
    ),
    case("whiteout-in-base", "a whiteout in an image's first layer", layer().file("f").whiteout("g")),
    case(
        "whiteout-of-directory",
        "a whiteout of a directory, and one below it",
        _base(),
        layer().whiteout("d/e/f").whiteout("d/e"),
        refused="d/e",
    ),
    case(
        "whiteout-owner",
        "a whiteout with an owner, a mode and content",
        _base(),
        layer().file("d/.wh.a", b"content", uid=5, gid=6, mode=0o777),
    ),
    case(
        "whiteout-as-directory",
        "a whiteout that is a directory in the tar",
        _base(),
        layer().raw(_wh(b"d/.wh.e/", b"5")),
    ),
    case(
        "whiteout-as-symlink",
        "a whiteout that is a symbolic link in the tar",
        _base(),
        layer().raw(_wh(b".wh.top", b"2", b"x")),
    ),
    case(
        "whiteout-as-hard-link",
        "a whiteout that is a hard link in the tar",
        _base(),
        layer().file("f").raw(_wh(b".wh.top", b"1", b"f")),
    ),
    case("whiteout-as-fifo", "a whiteout that is a FIFO in the tar", _base(), layer().raw(_wh(b".wh.top", b"6"))),
    case("whiteout-as-unknown", "a whiteout of an unknown type", _base(), layer().raw(_wh(b".wh.top", b"?"))),
    case(
        "whiteout-then-file",
        "a whiteout, then a file of the same name",
        _base(),
        layer().whiteout("top").file("top", b"new"),
    ),
    case(
        "file-then-whiteout",
        "a file, then a whiteout of the same name",
        _base(),
        layer().file("top", b"new").whiteout("top"),
        refused="top",
    ),
    case(
        "whiteout-then-directory",
        "a whiteout, then a directory of the same name, with content",
        _base(),
        layer().whiteout("d").directory("d").file("d/new"),
    ),
    case(
        "directory-then-whiteout",
        "a directory, then a whiteout of the same name",
        _base(),
        layer().directory("d").whiteout("d"),
        refused="b'd'",
    ),
    case(
        "whiteout-twice", "the same whiteout twice", _base(), layer().whiteout("top").whiteout("top"), refused=".wh.top"
    ),
    case(
        "whiteout-twice-spelled",
        "the same whiteout twice, spelled in two ways",
        _base(),
        layer().whiteout("top").whiteout("/top"),
        refused="top",
    ),
    case(
        "whiteout-in-whiteout",
        "a file below what a whiteout has made a device",
        _base(),
        layer().whiteout("d").file("d/new"),
        refused="d/new",
    ),
    case("whiteout-of-whiteout", "a whiteout whose name is that of a whiteout", _base(), layer().file(".wh..wh.top")),
    case(
        "whiteout-of-whiteout-after",
        "a whiteout of a whiteout's name, then that whiteout",
        _base(),
        layer().file(".wh..wh.top").whiteout("top"),
    ),
    case(
        "whiteout-aufs",
        "names that only aufs knew: .wh..wh.plnk, .wh..wh.aufs",
        _base(),
        layer().directory(".wh..wh.plnk").file(".wh..wh.aufs").directory(".wh..wh.orph"),
    ),
    case(
        "whiteout-aufs-content",
        "a file in a directory called .wh..wh.plnk, which has become a device",
        layer().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2"),
    ),
    case(
        "whiteout-through-link",
        "a whiteout through a symbolic link to a directory",
        _base(),
        layer().directory("d").symlink("l", "d").whiteout("l/a"),
    ),
    case(
        "opaque",
        "an opaque directory, marked before it is named",
        _base(),
        layer().opaque("d").directory("d").file("d/new"),
    ),
    case(
        "opaque-later-siblings",
        "an opaque directory with siblings that come later, and content from before",
        _base(),
        layer().directory("d").file("d/before").opaque("d").file("d/after").directory("d/e").whiteout("d/b"),
    ),
    case("opaque-unnamed", "an opaque mark in a directory that is not named", _base(), layer().opaque("x/y")),
    case("opaque-root", "an opaque mark in the layer's root", _base(), layer().file(".wh..wh..opq").file("only")),
    case("opaque-twice", "an opaque mark twice", _base(), layer().opaque("d").opaque("d"), refused=".wh..wh..opq"),
    case(
        "opaque-then-replaced",
        "an opaque directory that a file replaces",
        _base(),
        layer().directory("d").opaque("d").file("./d", b"x"),
        refused="d",
    ),
    case("opaque-of-file", "an opaque mark in what is a file", layer().file("f", b"1").opaque("f")),
    case(
        "opaque-of-link",
        "an opaque mark in what is a symbolic link to a directory",
        layer().directory("d").symlink("l", "d").opaque("l"),
    ),
    case(
        "opaque-as-directory",
        "an opaque mark that is a directory in the tar",
        _base(),
        layer().raw(_wh(b"d/.wh..wh..opq/", b"5")),
    ),
    case(
        "opaque-and-whiteout",
        "a directory opaque and whited out, one after the other",
        _base(),
        layer().opaque("d").whiteout("d"),
        refused="d",
    ),
    case(
        "child-before-parent",
        "children before their directories",
        layer()
        .file("a/b/c", b"1")
        .file("a/b2", b"2")
        .directory("a/b", mode=0o700, uid=1)
        .directory("a", mode=0o711, gid=2),
    ),
    case(
        "no-parents", "directories that are never named", layer().file("a/b/c/d", b"1").symlink("e/f", "x").fifo("g/h")
    ),
    case(
        "hard-link-before-directory",
        "a hard link into a directory that comes later",
        layer().file("f", b"1").hardlink("d/g", "f").directory("d", mode=0o700),
    ),
    case(
        "hard-link-before-target",
        "a hard link to an entry that comes later",
        layer().hardlink("g", "f").file("f", b"1"),
        refused="b'g'",
    ),
    case("file-twice", "the same file twice", layer().file("f", b"1").file("f", b"2"), refused="b'f'"),
    case("directory-twice", "the same directory twice", layer().directory("d").directory("d"), refused="b'd/'"),
    case(
        "file-twice-spelled",
        "the same file twice, spelled in two ways that the engine does not see through",
        layer().file("f", b"1").file("/f", b"22"),
    ),
    case(
        "directory-twice-spelled",
        "the same directory twice, spelled in two ways: the second one's metadata holds",
        layer().directory("d", mode=0o700, uid=1).file("d/a", b"1").directory("/d", mode=0o750, gid=3),
    ),
    case(
        "file-over-directory",
        "a file over a directory that has content",
        layer().directory("d").file("d/a", b"1").file("/d", b"file"),
    ),
    case(
        "file-over-directories",
        "a file over a directory that holds another directory",
        layer().directory("d").directory("d/e").file("/d", b"file"),
        refused="b'd/e'",
    ),
    case(
        "directory-over-file",
        "a directory over a file",
        layer().file("f", b"1").directory("/f", mode=0o711).file("f/g", b"2"),
    ),
    case(
        "symlink-over-directory",
        "a symbolic link over a directory that has content",
        layer().directory("other").directory("d").file("d/a", b"1").symlink("/d", "other").file("d/b", b"2"),
    ),
    case(
        "symlink-over-file",
        "a symbolic link over a file, and a file over a symbolic link",
        layer().file("a", b"1").symlink("/a", "t").symlink("b", "t").file("/b", b"2"),
    ),
    case(
        "file-over-symlink-to-file",
        "a file over a symbolic link to another file, which stays as it is",
        layer().file("t", b"target").symlink("l", "t").file("/l", b"new"),
    ),
    case(
        "directory-over-symlink",
        "a directory over a symbolic link to a directory: the link goes",
        layer().directory("t").file("t/a").symlink("l", "t").directory("/l", mode=0o700).file("l/b"),
    ),
    case(
        "device-over-file",
        "a device over a file, and a FIFO over a device",
        layer().file("a", b"1").char_device("/a", 1, 3).char_device("b", 1, 3).fifo("/b"),
    ),
    case(
        "hard-link-over-file",
        "a hard link over a file, and over its own target's other name",
        layer().file("a", b"1").file("b", b"2").hardlink("/b", "a"),
    ),
    case(
        "hard-link-over-itself",
        "a hard link to its own name",
        layer().file("a", b"1").hardlink("/a", "a"),
        refused="b'a'",
    ),
    case(
        "file-over-hard-link",
        "a file over one of two names of an inode: the other keeps its content",
        layer().file("a", b"1").hardlink("b", "a").file("/a", b"new"),
    ),
    case(
        "unnamed-then-file",
        "a file over a directory that exists only because of what it holds",
        layer().file("d/a", b"1").file("d", b"2"),
    ),
    case("file-as-parent", "a file below a file", layer().file("f", b"1").file("f/g", b"2"), refused="f/g"),
    case(
        "device-as-parent",
        "a file below a device",
        layer().char_device("dev", 1, 3).file("dev/g", b"2"),
        refused="dev/g",
    ),
    case(
        "symlink-parent",
        "files through symbolic links to directories, relative and absolute",
        layer()
        .directory("real")
        .symlink("rel", "real")
        .symlink("abs", "/real")
        .file("rel/a", b"1")
        .file("abs/b", b"2")
        .directory("rel/d", mode=0o700)
        .symlink("abs/l", "a"),
    ),
    case(
        "symlink-parent-nested",
        "symbolic links that lead through symbolic links, and up",
        layer().directory("a").directory("a/b").symlink("a/b/up", "..").symlink("x", "a/b/up/b").file("x/f", b"1"),
    ),
    case(
        "symlink-parent-dangling",
        "a file through a symbolic link that leads nowhere",
        layer().symlink("l", "nowhere").file("l/f", b"1"),
        refused="l/f",
    ),
    case(
        "symlink-parent-later",
        "a file through a symbolic link whose target comes later",
        layer().symlink("l", "later").file("l/f", b"1").directory("later"),
        refused="l/f",
    ),
    case(
        "symlink-parent-loop",
        "a file through symbolic links that go round",
        layer().symlink("a", "b").symlink("b", "a").file("a/f", b"1"),
        refused="a/f",
    ),
    case(
        "symlink-parent-file",
        "a file through a symbolic link to a file",
        layer().file("f", b"1").symlink("l", "f").file("l/g", b"2"),
        refused="l/g",
    ),
    case(
        "symlink-parent-unnamed",
        "a directory that is not named, through a symbolic link",
        layer().directory("real").symlink("l", "real").file("l/made/f", b"1"),
    ),
    case(
        "symlink-parent-proc",
        "a symbolic link to a place that only exists on the host",
        layer().symlink("l", "/proc/self").file("l/f"),
        refused="l/f",
    ),
    case(
        "lower-symlink",
        "a directory of the layer below is a link there: layers know nothing of each other",
        layer().directory("real").symlink("l", "real"),
        layer().file("l/f", b"1"),
    ),
    case("lower-file-over-directory", "a file where the layer below has a directory", _base(), layer().file("d", b"1")),
    case(
        "lower-hard-link",
        "a hard link to a file of the layer below",
        _base(),
        layer().hardlink("g", "top"),
        refused="b'g'",
    ),
)
