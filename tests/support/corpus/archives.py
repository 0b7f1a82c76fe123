"""Cases of archives: starts and ends, types of entries, compression, and global headers."""

from __future__ import annotations

import bz2
import lzma
import zlib

from tests.support.corpus.case import GNU_MAGIC, SECONDS, Case, case, layer, padded, with_records

from drypoint.digest import digest_of
from drypoint.oci import Descriptor
from drypoint.samples.images import BuiltLayer, Compression, build_layer
from drypoint.sinks.tar import END_OF_ARCHIVE, UstarHeader, pax_header

_ENTRY = layer().file("file", b"content" * 100).finish(end_of_archive=False)
_OTHER = layer().file("other", b"content" * 100).finish(end_of_archive=False)
_ZERO = bytes(512)


def _typed(
    typeflag: bytes, content: bytes = b"", linkname: bytes = b"", name: bytes = b"name", magic: bytes = b"ustar\x0000"
) -> bytes:
    header = UstarHeader(
        name, typeflag, mode=0o644, seconds=SECONDS, size=len(content), linkname=linkname, magic=magic
    ).pack()
    return header + padded(content)


def _v7() -> bytes:
    """Headers without a magic number, as written by the tar of Unix Version 7."""
    nothing = bytes(8)
    return (
        _typed(b"\0", b"1", name=b"file", magic=nothing)
        + _typed(b"\0", name=b"directory/", magic=nothing)
        + _typed(b"1", linkname=b"file", name=b"hard", magic=nothing)
        + _typed(b"2", linkname=b"file", name=b"soft", magic=nothing)
    )


def _blob(name: str, odd: str, tar: bytes, blob: bytes, refused: str | None = None) -> Case:
    """A case whose layer has its own compression."""
    plain = build_layer(tar)
    descriptor = Descriptor(plain.descriptor.media_type, digest_of(blob), len(blob))
    return Case(name, odd, (BuiltLayer(descriptor, plain.diff_id, blob, tar),), refused)


def _tar(name: str) -> bytes:
    """A tar that no other case has: engines do not fetch a layer whose diff-id they have."""
    return layer().file(name, b"content" * 10_000).finish()


def _gzip(name: str) -> bytes:
    return zlib.compress(_tar(name), wbits=31)


_BZIP2 = layer().file("bzip2-padded").finish().ljust(65_536, b"\0")
_BZIP2_STREAMS = layer().file("bzip2-streams").finish().ljust(65_536, b"\0")
_XZ, _MEMBERS = _tar("xz-two-streams"), _tar("gzip-empty-member")

ARCHIVES: tuple[Case, ...] = (
    case("layer-empty", "a layer with two zero blocks and nothing else", layer()),
    case("layer-no-bytes", "a layer of no bytes", b"", compression=Compression.NONE),
    case(
        "layer-in-the-middle-empty", "an empty layer between two others", layer().file("a"), layer(), layer().file("b")
    ),
    case("end-missing", "no zero block at the end", _ENTRY),
    case("end-missing-plain", "no zero block at the end, without compression", _OTHER, compression=Compression.NONE),
    case("end-one-block", "one zero block only", _ENTRY + _ZERO),
    case(
        "end-one-block-then-entry",
        "one zero block, then another entry",
        _ENTRY + _ZERO + layer().file("b").finish(),
        refused="zero block",
    ),
    case("end-half-block", "half a block after the last entry", _ENTRY + bytes(100), refused="inside a header"),
    case(
        "end-half-second-block", "one zero block and half of another", _ENTRY + _ZERO + bytes(100), refused="zero block"
    ),
    case("end-no-padding", "content that ends the archive, its padding missing", _ENTRY[: 512 + 700]),
    case("end-in-padding", "an archive that is cut off inside its last padding", _ENTRY[: 512 + 700 + 300]),
    case(
        "end-in-padding-of-header",
        "an archive that is cut off inside the padding of an extended header",
        _ENTRY + pax_header({b"path": b"x"}, b"x")[:900],
    ),
    case("end-in-content", "content that is cut off", _ENTRY[: 512 + 600], refused="file"),
    case("end-in-header", "a header that is cut off", _ENTRY + _ENTRY[:300], refused="inside a header"),
    case(
        "end-in-pax",
        "an extended header that is cut off",
        _ENTRY + pax_header({b"path": b"x"}, b"x")[:520],
        refused="cut off",
    ),
    case("padding-10k", "padding up to 10,240 bytes, as tar writes it", _ENTRY + bytes(10240 - len(_ENTRY))),
    case("padding-megabytes", "padding of 4 MiB", _ENTRY + bytes(4 << 20)),
    case(
        "padding-megabytes-plain",
        "padding of 4 MiB, without compression",
        _OTHER + bytes(4 << 20),
        compression=Compression.NONE,
    ),
    case("padding-odd", "padding of an odd number of bytes", _ENTRY + bytes(1024 + 777)),
    case("trailing-garbage", "bytes that mean nothing after the end", _ENTRY + END_OF_ARCHIVE + b"garbage" * 1000),
    case(
        "trailing-garbage-plain",
        "the same without compression",
        _OTHER + END_OF_ARCHIVE + b"garbage" * 1000,
        compression=Compression.NONE,
    ),
    case(
        "trailing-archive",
        "a second archive after the end of the first",
        layer().file("a").finish() + layer().file("b").finish(),
    ),
    case("trailing-100k", "100,000 bytes after the end", _ENTRY + END_OF_ARCHIVE + b"x" * 100_000),
    case("no-tar", "a layer that is text", b"no archive at all\n" * 100, refused="octal"),
    case("no-tar-short", "a layer of nine bytes", b"no archive"[:9], refused="inside a header"),
    case("zeros-first", "a layer that begins with zero blocks, an entry after them", END_OF_ARCHIVE + _ENTRY),
    case("plain", "a layer without compression", _tar("plain"), compression=Compression.NONE),
    case(
        "gzip-members",
        "gzip in many members",
        layer().file("f", bytes(500_000)).finish(),
        compression=Compression.GZIP_MEMBERS,
    ),
    _blob("bzip2", "a layer in bzip2", _tar("bzip2"), bz2.compress(_tar("bzip2"))),
    _blob("bzip2-padded", "bzip2, padded to 65,536 bytes", _BZIP2, bz2.compress(_BZIP2)),
    _blob(
        "bzip2-streams",
        "two bzip2 streams, the second one from within the padding on",
        _BZIP2_STREAMS,
        bz2.compress(_BZIP2_STREAMS[:-700]) + bz2.compress(_BZIP2_STREAMS[-700:]),
    ),
    _blob("xz", "a layer in xz", _tar("xz"), lzma.compress(_tar("xz"))),
    _blob("xz-two-streams", "a layer in two xz streams", _XZ, lzma.compress(_XZ[:5000]) + lzma.compress(_XZ[5000:])),
    _blob(
        "gzip-empty-member",
        "an empty gzip member between two others",
        _MEMBERS,
        zlib.compress(_MEMBERS[:5000], wbits=31)
        + zlib.compress(b"", wbits=31)
        + zlib.compress(_MEMBERS[5000:], wbits=31),
    ),
    _blob(
        "gzip-cut-off",
        "a gzip layer that is cut off",
        _tar("gzip-cut-off"),
        _gzip("gzip-cut-off")[:-20],
        refused="gzip",
    ),
    _blob(
        "gzip-crc",
        "a gzip layer whose checksum is wrong",
        _tar("gzip-crc"),
        _gzip("gzip-crc")[:-8] + b"\0\0\0\0" + _gzip("gzip-crc")[-4:],
        refused="gzip",
    ),
    _blob(
        "gzip-trailing-zeros",
        "zeros after a gzip layer",
        _tar("gzip-trailing-zeros"),
        _gzip("gzip-trailing-zeros") + bytes(512),
        refused="gzip",
    ),
    _blob(
        "gzip-trailing-garbage",
        "bytes that mean nothing after a gzip layer",
        _tar("gzip-trailing-garbage"),
        _gzip("gzip-trailing-garbage") + b"garbage",
        refused="gzip",
    ),
    _blob(
        "diff-id",
        "a layer whose tar is not what the config says",
        _tar("diff-id"),
        zlib.compress(_tar("diff-id") + b"x", wbits=31),
        refused="digest",
    ),
    case("v7", "headers without a magic", layer().raw(_v7())),
    case(
        "old-gnu-mixed",
        "ustar, GNU and V7 headers in one archive",
        layer().raw(_v7()).raw(_typed(b"0", b"2", name=b"gnu", magic=GNU_MAGIC)).raw(_typed(b"0", b"3", name=b"ustar")),
    ),
    case("type-contiguous", "a contiguous file (type 7)", layer().raw(_typed(b"7", b"content")), refused="b'name'"),
    case("type-v7-file", "a file of type NUL", layer().raw(_typed(b"\0", b"content"))),
    case(
        "type-multi-volume",
        "a file that goes on from another volume (type M)",
        layer().raw(_typed(b"M", b"content")),
        refused="b'name'",
    ),
    case("type-volume", "a volume's name (type V)", layer().raw(_typed(b"V", name=b"name")), refused="b'name'"),
    case(
        "type-dump",
        "a directory of GNU's incremental backup (type D)",
        layer().raw(_typed(b"D", b"Yname\0\0", name=b"name/")),
        refused="b'name",
    ),
    case("type-socket", "a socket (type s), which no format has", layer().raw(_typed(b"s")), refused="b'name'"),
    case("type-solaris-acl", "a Solaris access list (type A)", layer().raw(_typed(b"A", b"list")), refused="b'name'"),
    case(
        "type-solaris-extended",
        "a Solaris extended header (type X)",
        layer().raw(_typed(b"X", b"12 path=abc\n")),
        refused="b'name'",
    ),
    case("type-unknown", "a type that nobody knows", layer().raw(_typed(b"?", b"content")), refused="b'name'"),
    case("type-upper-half", "a type beyond ASCII", layer().raw(_typed(b"\xfe", b"content")), refused="b'name'"),
    case(
        "global-header",
        "a PAX global header with a comment, as git writes it",
        layer().pax_global({b"comment": b"cafe"}).file("f"),
    ),
    case(
        "global-header-path",
        "a PAX global header with a path, an owner and a time: passed over",
        layer().pax_global({b"path": b"other", b"uid": b"5", b"mtime": b"1", b"size": b"9"}).file("f", b"1"),
    ),
    case(
        "global-headers-two",
        "two PAX global headers of the same name",
        layer().pax_global({b"comment": b"1"}).pax_global({b"comment": b"2"}).file("f"),
        refused="b'PaxHeaders/global'",
    ),
    case(
        "global-headers-two-names",
        "two PAX global headers of different names",
        layer().pax_global({b"comment": b"1"}).raw(pax_header({b"comment": b"2"}, b"another", b"g")).file("f"),
    ),
    case(
        "global-headers-path-twice",
        "two PAX global headers with the same path",
        layer().pax_global({b"path": b"x"}).file("f").pax_global({b"path": b"x"}),
        refused="b'x'",
    ),
    case(
        "global-header-named-as-entry",
        "a PAX global header with the path of an entry",
        layer().pax_global({b"path": b"f"}).file("f"),
        refused="b'f'",
    ),
    case(
        "global-header-after-local",
        "a global header between an extended header and its entry",
        layer().raw(pax_header({b"path": b"lost"}, b"x")).pax_global({b"comment": b"1"}).file("f"),
    ),
    case(
        "global-header-bad",
        "a global header that is malformed",
        layer().raw(UstarHeader(b"g", b"g", size=9).pack() + padded(b"malformed")),
        refused="PAX",
    ),
    case("global-header-last", "a global header at the end", layer().file("f").pax_global({b"comment": b"1"})),
    case(
        "pax-twice",
        "two extended headers before one entry: the last one holds",
        layer().raw(pax_header({b"path": b"first", b"uid": b"5"}, b"x")).raw(with_records({b"path": b"second"}, b"x")),
    ),
    case(
        "pax-for-nobody",
        "an extended header with no entry after it",
        layer().file("f").raw(pax_header({b"path": b"x"}, b"x")),
    ),
    case(
        "pax-unknown-keys",
        "extended headers with keys that nobody knows",
        layer().raw(
            with_records(
                {b"comment": b"x", b"VENDOR.key": b"\0\xff", b"hdrcharset": b"BINARY", b"uname": b"nobody"}, b"f"
            )
        ),
    ),
    case(
        "pax-bad-length",
        "a PAX record whose length is wrong",
        layer().raw(UstarHeader(b"x", b"x", size=9).pack() + padded(b"99 a=bcd\n") + _ENTRY),
        refused="PAX",
    ),
    case(
        "pax-no-equals",
        "a PAX record without a =",
        layer().raw(UstarHeader(b"x", b"x", size=7).pack() + padded(b"7 abcd\n") + _ENTRY),
        refused="PAX",
    ),
    case(
        "pax-no-newline",
        "a PAX record without its newline",
        layer().raw(UstarHeader(b"x", b"x", size=8).pack() + padded(b"8 ab=cde") + _ENTRY),
        refused="PAX",
    ),
    case("pax-empty", "an extended header without records", layer().raw(UstarHeader(b"x", b"x").pack()).file("f")),
    case(
        "pax-too-big",
        "an extended header of over 1 MiB",
        layer().raw(with_records({b"comment": b"c" * (1 << 20)}, b"f")),
        refused="extended header",
    ),
    case(
        "pax-nearly-too-big",
        "an extended header of nearly 1 MiB",
        layer().raw(with_records({b"comment": b"c" * ((1 << 20) - 20)}, b"f")),
    ),
    case(
        "content-sizes",
        "contents around the size of a block",
        layer()
        .file("0")
        .file("1", b"x")
        .file("511", b"x" * 511)
        .file("512", b"x" * 512)
        .file("513", b"x" * 513)
        .file("1024", b"x" * 1024),
    ),
    case(
        "many-entries",
        "two thousand files in one directory",
        layer().raw(
            b"".join(
                UstarHeader(b"dir/%d" % number, b"0", mode=0o644, seconds=SECONDS).pack() for number in range(2000)
            )
        ),
    ),
)
