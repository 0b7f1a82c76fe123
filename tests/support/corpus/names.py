"""Cases of names: length, bytes, spelling."""

from __future__ import annotations

from tests.support.corpus.case import GNU_MAGIC, SECONDS, Case, case, layer, padded, with_records

from drypoint.samples.layers import LayerBuilder, TarFormat
from drypoint.sinks.tar import UstarHeader


def _deep(length: int) -> bytes:
    """A path of *length* bytes whose parts are short."""
    return (b"d" * 49 + b"/") * (length // 50) + b"f" * (length % 50)


def _gnu() -> LayerBuilder:
    return LayerBuilder(tar_format=TarFormat.GNU)


def _prefixed() -> bytes:
    """A ustar header whose name is in two fields."""
    header = bytearray(UstarHeader(b"half/file", b"0", mode=0o644, seconds=SECONDS).pack())
    header[345:350] = b"first"
    return _summed(header)


def _summed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _gnu_long(typeflag: bytes, text: bytes) -> bytes:
    return UstarHeader(b"././@LongLink", typeflag, size=len(text), magic=GNU_MAGIC).pack() + padded(text)


def _plain(name: bytes, typeflag: bytes = b"0", linkname: bytes = b"") -> bytes:
    return UstarHeader(name, typeflag, mode=0o644, seconds=SECONDS, linkname=linkname).pack()


NAMES: tuple[Case, ...] = (
    case(
        "name-lengths-pax",
        "names of 99 to 255 bytes, by PAX",
        layer().file("a" * 99).file("b" * 100).file("c" * 101).file("d" * 254).file("e" * 255),
    ),
    case(
        "name-lengths-gnu",
        "names of 99 to 255 bytes, by GNU long names",
        _gnu().file("a" * 99).file("b" * 100).file("c" * 101).file("d" * 254).file("e" * 255),
    ),
    case("name-256-pax", "a name of 256 bytes", layer().file("n" * 256), refused="n" * 256),
    case("name-256-gnu", "a name of 256 bytes, by GNU", _gnu().file("n" * 256), refused="n" * 256),
    case(
        "directory-256",
        "a directory of 256 bytes in the way to a file",
        layer().file("n" * 256 + "/f"),
        refused="n" * 256,
    ),
    case("path-3900-pax", "a path of 3,900 bytes, by PAX", layer().file(_deep(3900), b"deep")),
    case("path-3900-gnu", "a path of 3,900 bytes, by GNU", _gnu().file(_deep(3900), b"deep")),
    case(
        "path-4050",
        "a path of 4,050 bytes: too long only together with the data root's own path, which Linux bounds",
        layer().file(_deep(4050)),
        refused="d" * 49,
    ),
    case("path-4096", "a path of 4,096 bytes", layer().file(_deep(4096)), refused="d" * 49),
    case("path-6000-gnu", "a path of 6,000 bytes, by GNU", _gnu().file(_deep(6000)), refused="d" * 49),
    case("name-in-two-halves", "a ustar header with a prefix", layer().raw(_prefixed())),
    case(
        "name-not-utf-8",
        "names in Latin-1 and of arbitrary bytes",
        layer()
        .file(b"caf\xe9", b"1")
        .directory(b"\xff\xfe")
        .file(b"\xff\xfe/\x80", b"2")
        .symlink(b"l\xf6k", b"caf\xe9"),
    ),
    case(
        "name-not-utf-8-long",
        "a long name that is not UTF-8, by PAX and by GNU",
        layer().file(b"\xe9" * 120, b"1").raw(_gnu().file(b"\xe8" * 130, b"2").finish(end_of_archive=False)),
    ),
    case(
        "name-newline",
        "newlines, tabs and control bytes in names",
        layer().file(b"one\ntwo", b"1").directory(b"\n").file(b"\n/\t\x01\x7f", b"2").symlink(b"to\n", b"one\ntwo"),
    ),
    case(
        "name-quotes",
        "names that JSON has to escape",
        layer().file(b'"quoted" \\ <&>', b"1").file("\u2028\u2029 é 🐋", b"2"),
    ),
    case(
        "name-backslash-glob",
        "names that shells treat in a special way",
        layer().file("*").file("~").file("-rf").file("a\\b"),
    ),
    case("name-spaces", "names of spaces and dots", layer().file(" ").file("...").file(".a").file("a.").file(". .")),
    case("name-upper-and-lower", "names that differ in case only", layer().file("A", b"1").file("a", b"2")),
    case(
        "name-trailing-spaces", "a name that fills its field and ends in spaces", layer().file("n" * 97 + "   ", b"1")
    ),
    case("name-dot-slash", "names that begin with ./", layer().file("./a", b"1").directory("./d").file("./d/f", b"2")),
    case("name-slash", "names that begin with /", layer().file("/a", b"1").directory("/d").file("//d//f", b"2")),
    case(
        "name-dot-parts",
        "names with . and .. inside",
        layer().directory("d").file("d/../a", b"1").file("d/./b", b"2").file("x/../c", b"3").file("/../e", b"4"),
    ),
    case("name-climbs", "a name that climbs above the root by ..", layer().file("../escaped", b"1")),
    case("name-climbs-deep", "a name that climbs above the root from below", layer().file("a/../../escaped", b"1")),
    case(
        "link-climbs",
        "a symbolic link that leads above the root, and a file through it",
        layer().symlink("out", "../../../..").file("out/etc-file", b"1"),
    ),
    case(
        "hard-link-climbs",
        "a hard link whose target climbs above the root",
        layer().file("a", b"1").hardlink("b", "../a"),
    ),
    case("hard-link-absolute", "a hard link to an absolute name", layer().file("a", b"1").hardlink("b", "/a")),
    case("root-dot", "the root as ./, with metadata of its own", layer().directory(".", mode=0o700, uid=5).file("f")),
    case("root-slash", "the root as /, with metadata of its own", layer().raw(_plain(b"/", b"5")).file("f")),
    case("root-both", "the root as ./ and as /", layer().directory(".", mode=0o711).raw(_plain(b"/", b"5")).file("f")),
    case("root-twice", "the root as ./ twice", layer().directory(".").directory(".").file("f"), refused="./"),
    case("root-dot-dot", "the root as ..", layer().raw(_plain(b"..", b"5")).file("f")),
    case("root-is-a-file", "a regular file called /", layer().raw(_plain(b"/")), refused="b'/'"),
    case("root-is-a-link", "a symbolic link called /", layer().raw(_plain(b"/", b"2", b"usr")), refused="b'/'"),
    case("root-dot-file", "a regular file called .", layer().raw(_plain(b".")).file("f")),
    case("name-empty", "a regular file with a name of no bytes", layer().raw(_plain(b"")).file("f")),
    case("name-empty-directory", "a directory with a name of no bytes", layer().raw(_plain(b"", b"5")).file("f")),
    case("name-empty-link", "a symbolic link with a name of no bytes", layer().raw(_plain(b"", b"2", b"f")).file("f")),
    case("name-empty-hard-link", "a hard link with a name of no bytes", layer().file("f").raw(_plain(b"", b"1", b"f"))),
    case(
        "slash-after-file",
        "a regular file (type 0) whose name ends in a slash",
        layer().raw(_plain(b"file/")).file("g"),
    ),
    case(
        "slash-after-v7-file",
        "a file of type NUL whose name ends in a slash: a directory",
        layer().raw(_plain(b"directory/", b"\0")).file("directory/f"),
    ),
    case(
        "slash-after-symlink",
        "a symbolic link whose name ends in a slash",
        layer().raw(_plain(b"link/", b"2", b"f")).file("f"),
    ),
    case(
        "no-slash-after-directory",
        "a directory whose name has no slash at its end",
        layer().raw(_plain(b"d", b"5")).file("d/f"),
    ),
    case(
        "long-name-with-nul",
        "a GNU long name with a NUL in the middle",
        layer().raw(_gnu_long(b"L", b"seen\0unseen") + _plain(b"x")),
    ),
    case(
        "long-name-twice",
        "two GNU long names before one entry: the last one holds",
        layer().raw(_gnu_long(b"L", b"first\0") + _gnu_long(b"L", b"second\0") + _plain(b"x")),
    ),
    case(
        "long-name-and-pax",
        "a GNU long name and a PAX path for one entry",
        layer().raw(_gnu_long(b"L", b"by-gnu\0") + with_records({b"path": b"by-pax"}, b"by-ustar")),
    ),
    case("long-name-empty", "a GNU long name of no bytes", layer().raw(_gnu_long(b"L", b"") + _plain(b"short"))),
    case(
        "long-name-huge",
        "a GNU long name of over 1 MiB",
        layer().raw(_gnu_long(b"L", b"n" * (1 << 20) + b"n\0") + _plain(b"x")),
        refused="extended header",
    ),
    case(
        "long-name-for-nobody",
        "a GNU long name with no entry after it",
        layer().file("f").raw(_gnu_long(b"L", b"nobody\0")),
    ),
    case(
        "long-link-pax",
        "a symbolic link's target of 300 and of 4,000 bytes, by PAX",
        layer().symlink("a", "t" * 300).symlink("b", _deep(4000)),
    ),
    case("long-link-gnu", "the same by GNU", _gnu().symlink("a", "t" * 300).symlink("b", _deep(4000))),
    case("long-link-4095", "a symbolic link's target of 4,095 bytes", layer().symlink("a", _deep(4095))),
    case(
        "long-link-4096",
        "a symbolic link's target of 4,096 bytes",
        layer().symlink("name", _deep(4096)),
        refused="b'name'",
    ),
    case(
        "long-hard-link", "a hard link to a long name, by PAX", layer().file("n" * 200, b"1").hardlink("h", "n" * 200)
    ),
    case(
        "long-hard-link-gnu",
        "a hard link to a long name, by GNU",
        _gnu().file("n" * 200, b"1").hardlink("h", "n" * 200),
    ),
    case("pax-path-empty", "a PAX path of no bytes", layer().raw(with_records({b"path": b""}, b"by-ustar"))),
    case(
        "pax-path-nul",
        "a PAX path with a NUL",
        layer().raw(with_records({b"path": b"a\0b"}, b"by-ustar")),
        refused="malformed",
    ),
    case(
        "pax-path-slash",
        "a PAX path that ends in a slash, of a file of type NUL",
        layer().raw(with_records({b"path": b"d/"}, b"x", b"\0")).file("d/f"),
    ),
    case("link-name-empty", "a symbolic link to nothing", layer().symlink("name", ""), refused="b'name'"),
    case("hard-link-name-empty", "a hard link to a name of no bytes", layer().hardlink("name", ""), refused="name"),
    case(
        "link-not-utf-8",
        "a symbolic link's target with odd bytes",
        layer().symlink("a", b"\xff\n\x01").symlink("b", " "),
    ),
    case(
        "wh-name-alone",
        "whiteouts without a name, and of . and ..",
        layer().directory("d").file("d/.wh."),
        refused="d/.wh.",
    ),
    case("wh-name-dot", "a whiteout of .", layer().file(".wh.."), refused=".wh.."),
    case("wh-name-dot-dot", "a whiteout of ..", layer().file("d/.wh..."), refused=".wh..."),
    case("wh-name-long", "a whiteout of a name of 251 bytes, and so of 255 in the tar", layer().whiteout("w" * 251)),
    case(
        "wh-name-too-long",
        "a whiteout of a name of 255 bytes: only the entry's own name is too long",
        layer().whiteout("w" * 255),
    ),
)
