"""The tar reader against Python's tarfile and GNU tar, and the meaning of entries as dockerd 20.10.24 was seen to take it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.errors import LayerError
from drypoint.fstree import BlockDevice, CharDevice, Directory, Fifo, Metadata, Regular, Symlink
from drypoint.layers import Add, Change, LayerReader, Link, Opaque, TarEntry, TarReader, Whiteout

TIME = 1_600_000_000
NS = 1_000_000_000
END = bytes(1024)
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def number(value: int, width: int) -> bytes:
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (value % (1 << (8 * width)) | (1 << (8 * width - 1))).to_bytes(width, "big")


def header(
    name: bytes,
    kind: bytes = b"0",
    *,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = TIME,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    signed: bool = False,
) -> bytes:
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            *(number(value, 8) for value in (mode, uid, gid)),
            *(number(value, 12) for value in (size, mtime)),
            b" " * 8,
            kind,
            link.ljust(100, b"\0"),
            magic,
            bytes(64),
            *(number(value, 8) for value in device),
            prefix.ljust(167, b"\0"),
        )
    )
    assert len(block) == 512
    total = sum(byte - 256 * (signed and byte > 127) for byte in block)
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def file(name: bytes, content: bytes = b"", **fields: int) -> bytes:
    return header(name, size=len(content), mtime=fields.get("mtime", TIME), mode=fields.get("mode", 0o644)) + padded(
        content
    )


def pax(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    body = b""
    for key, value in records.items():
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        body += b"%d %s=%s\n" % (length, key, value)
    return header(b"PaxHeaders/0", kind, size=len(body)) + padded(body)


def cut(tar: bytes, step: int = 1 << 20) -> Iterator[bytes]:
    for start in range(0, len(tar), step):
        yield tar[start : start + step]


def entries(tar: bytes, step: int = 1 << 20) -> list[tuple[TarEntry, bytes]]:
    reader = TarReader(cut(tar, step), "layer")
    return [(entry, b"".join(bytes(piece) for piece in reader.content())) for entry in reader]


def changes(*parts: bytes) -> list[tuple[Change, bytes | None]]:
    with LayerReader(cut(b"".join((*parts, END))), "layer") as reader:
        return [
            (change, None if content is None else b"".join(bytes(piece) for piece in content))
            for change, content in reader
        ]


def only_change(*parts: bytes) -> Change:
    ((change, _),) = changes(*parts)
    return change


def refusal(*parts: bytes) -> str:
    with pytest.raises(LayerError, match=r"^layer: ") as caught:
        changes(*parts)
    return str(caught.value)


def meta(**fields: int) -> Metadata:
    return Metadata(
        fields.get("mode", 0o644), fields.get("uid", 0), fields.get("gid", 0), fields.get("mtime", TIME * NS)
    )


# The format


@pytest.mark.parametrize("python_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [1 << 20, 700, 512, 1])
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(python_format: int, step: int) -> None:
    stream = io.BytesIO()
    long = [] if python_format == tarfile.USTAR_FORMAT else ["n" * 99 + "/" + "m" * 155 + "/x", "d/" + "é" * 120]
    with tarfile.open(fileobj=stream, mode="w", format=python_format) as archive:
        for name in ["a", "dir/b", "p" * 90 + "/" + "q" * 90, *long]:
            info = tarfile.TarInfo(name)
            content = name.encode() * 7
            info.size, info.mtime, info.uid, info.gid, info.mode = len(content), TIME, 1000, 70000, 0o4755
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * (100 if python_format == tarfile.USTAR_FORMAT else 300)
        archive.addfile(link)
    tar = stream.getvalue()
    found = entries(tar, step)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = archive.getmembers()
        assert len(found) == len(members)
        for member, (entry, content) in zip(members, found, strict=True):
            assert entry.name == member.name.encode()
            assert entry.linkname == member.linkname.encode()
            assert (entry.uid, entry.gid, entry.mode, entry.size) == (member.uid, member.gid, member.mode, member.size)
            assert entry.mtime == member.mtime * NS
            extracted = archive.extractfile(member) if member.isreg() else None
            assert content == (extracted.read() if extracted else b"")


@pytest.mark.parametrize("tar_format", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, tar_format: str) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_bytes(b"content" * 1000)
    (tree / "link").symlink_to("sub/file")
    (tree / "hard").hardlink_to(tree / "sub" / "file")
    tar = subprocess.run(
        ["tar", "-C", tree, f"--format={tar_format}", "--sort=name", "-cf", "-", "."], check=True, capture_output=True
    ).stdout
    found = {entry.name.rstrip(b"/"): (entry.typeflag, content) for entry, content in entries(tar, 1000)}
    assert {name: kind for name, (kind, _) in found.items()} == {
        b".": b"5",
        b"./hard": b"0",
        b"./link": b"2",
        b"./sub": b"5",
        b"./sub/file": b"1",
    }
    assert found[b"./hard"][1] == b"content" * 1000


@pytest.mark.parametrize(
    "tar_format", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax --sparse-version=1.0"]
)
@pytest.mark.parametrize("holes", [1, 3, 30])
def test_sparse_files_are_read_with_their_holes(tmp_path: Path, tar_format: str, holes: int) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        for index in range(holes):
            stream.seek((index * 2 + 1) << 16)
            stream.write(bytes([index + 1]) * 5000)
        stream.truncate((2 * holes + 5) << 16)
    tar = subprocess.run(
        ["tar", "-C", tmp_path, *f"--format={tar_format}".split(), "--sparse", "-cf", "-", "sparse"],
        check=True,
        capture_output=True,
    ).stdout
    assert len(tar) < path.stat().st_size
    ((entry, content),) = entries(tar, 3001)
    assert (entry.name, entry.size) == (b"sparse", path.stat().st_size)
    assert content == path.read_bytes()


@pytest.mark.parametrize("value", [0, 1, (1 << 33) - 1, 1 << 33, (1 << 62) + 12345, -1, -5, -(1 << 40)])
def test_numbers_in_base_256(value: int) -> None:
    ((entry, _),) = entries(header(b"f", b"5", mtime=value))
    assert entry.mtime == value * NS


@pytest.mark.parametrize(
    "text", [b"0000644\0", b"   644 \0", b"644\0    ", bytes(5) + b"644", b"00000644", b"644  \0  "]
)
def test_spellings_of_octal(text: bytes) -> None:
    block = bytearray(header(b"f"))
    block[100:108] = text
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    ((entry, _),) = entries(bytes(block))
    assert entry.mode == 0o644


@pytest.mark.parametrize("text", [b"0000648\0", b"0o00644\0", b"+000644\0", b"00_0644\0", b"64 4    ", b"-000644\0"])
def test_what_is_no_octal_is_refused(text: bytes) -> None:
    block = bytearray(header(b"f"))
    block[100:108] = text
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(LayerError, match="layer: entry 1"):
        entries(bytes(block))


def test_checksums_signed_and_unsigned_and_wrong() -> None:
    for signed in (False, True):
        ((entry, _),) = entries(header(b"caf\xe9", signed=signed))
        assert entry.name == b"caf\xe9"
    for position in (0, 100, 148, 300, 511):
        block = bytearray(header(b"file"))
        block[position] ^= 2
        with pytest.raises(LayerError, match="layer: entry 1, at byte 512 of the tar: the header"):
            entries(bytes(block))


def test_a_prefix_in_a_gnu_header_counts_only_if_it_is_no_time() -> None:
    gnu = b"ustar  \0"
    ((entry, _),) = entries(header(b"f", magic=gnu, prefix=b"old/go"))
    assert entry.name == b"old/go/f"
    ((entry, _),) = entries(header(b"f", magic=gnu, prefix=number(TIME, 12) + number(TIME, 12)))
    assert entry.name == b"f"


def test_a_header_of_another_magic_has_neither_prefix_nor_devices() -> None:
    ((entry, _),) = entries(header(b"f", b"3", magic=b"\0" * 8, prefix=b"p", device=(4, 5)))
    assert (entry.name, entry.major, entry.minor) == (b"f", 0, 0)


def test_pax_records_override_the_header() -> None:
    records = {
        b"path": b"new/\xff",
        b"uid": b"5000000000",
        b"gid": b"7",
        b"mtime": b"-1.25",
        b"size": b"3",
        b"linkpath": b"",
    }
    records |= {
        b"SCHILY.xattr.user.b": b"2\0",
        b"SCHILY.xattr.user.a": b"1",
        b"SCHILY.xattr.user.none": b"",
        b"comment": b"x",
    }
    ((entry, content),) = entries(pax(records) + header(b"old", size=0, link=b"kept") + padded(b"abc"))
    assert (entry.name, entry.uid, entry.gid, entry.size) == (b"new/\xff", 5_000_000_000, 7, 3)
    assert (entry.mtime, entry.linkname, content) == (-1_250_000_000, b"kept", b"abc")
    assert entry.xattrs == ((b"user.a", b"1"), (b"user.b", b"2\0"))


@pytest.mark.parametrize(
    "record",
    [
        b"10 path=ab\n",
        b"9 path=ab\n",
        b"x path=ab\n",
        b"10 pathab \n",
        b"5 =a\n",
        b"12 path=a\0b\n",
        b"11 a\0a=aaa\n",
        b"3 \n",
        b"path",
    ],
)
def test_malformed_pax_records_are_refused(record: bytes) -> None:
    with pytest.raises(LayerError, match=r"PAX record|decimal"):
        entries(header(b"p", b"x", size=len(record)) + padded(record) + header(b"f"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"size", b"-1"),
        (b"size", b"1_0"),
        (b"uid", b"9223372036854775808"),
        (b"mtime", b"1.x"),
        (b"atime", b"."),
        (b"gid", b" 1"),
    ],
)
def test_bad_values_in_pax_records_are_refused(key: bytes, value: bytes) -> None:
    with pytest.raises(LayerError):
        entries(pax({key: value}) + header(b"f"))


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_what_describes_an_entry_is_bounded(kind: bytes) -> None:
    with pytest.raises(LayerError, match="more than the 1048576"):
        entries(header(b"p", kind, size=(1 << 20) + 1) + bytes(2 << 20))
    many = (header(b"p", b"L", size=1 << 20) + bytes(1 << 20)) * 17
    with pytest.raises(LayerError, match="bytes of headers before one entry"):
        entries(many)


@pytest.mark.parametrize(
    ("tail", "clean"),
    [
        (b"", True),
        (bytes(512), True),
        (bytes(1024), True),
        (bytes(1024) + b"garbage", True),
        (bytes(700), False),
        (bytes(512) + b"x" * 512, False),
        (b"x" * 100, False),
    ],
)
def test_ends_of_archives(tail: bytes, clean: bool) -> None:
    tar = file(b"f", b"content") + tail
    if clean:
        assert [content for _, content in entries(tar, 100)] == [b"content"]
    else:
        with pytest.raises(LayerError, match="layer: entry 2 after b'f'"):
            entries(tar, 100)


def test_truncated_content_is_refused_but_truncated_padding_is_not() -> None:
    tar = file(b"f", b"x" * 600)
    for length in (512, 513, 1111):
        with pytest.raises(LayerError, match="cut off"):
            entries(tar[:length], 100)
    for length in (1112, 1200, 1536):
        assert len(entries(tar[:length], 100)) == 1


@given(st.binary(max_size=2000), st.integers(1, 600))
def test_garbage_raises_nothing_but_layer_errors(garbage: bytes, step: int) -> None:
    for start in (
        b"",
        file(b"f", b"x"),
        pax({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}) + header(b"s", size=1024),
    ):
        for kind in (b"", b"x", b"S", b"L"):
            begun = start + (header(b"k", kind, size=len(garbage), magic=b"ustar  \0") if kind else b"")
            try:
                entries(begun + garbage, step)
            except LayerError:
                continue


def test_holes_of_a_layer_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drypoint.layers.tar.MAX_SPARSE_BYTES", 8192)

    def hole(name: bytes, size: int) -> bytes:
        records = {
            b"GNU.sparse.major": b"0",
            b"GNU.sparse.minor": b"1",
            b"GNU.sparse.numblocks": b"0",
            b"GNU.sparse.size": b"%d" % size,
        }
        return pax(records) + header(name)

    assert len(entries(hole(b"one", 4096) + hole(b"two", 4096))) == 2
    with pytest.raises(LayerError, match="sparse files have more than 8192 bytes"):
        entries(hole(b"one", 4096) + hole(b"two", 4096) + hole(b"three", 1))


# The meaning


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a", b"a"),
        (b"./a", b"a"),
        (b"/a", b"a"),
        (b"a//b", b"a/b"),
        (b"x/../a", b"a"),
        (b"../../a", b"a"),
        (b"a/../../b/./c", b"b/c"),
    ],
)
def test_names_are_cleaned_and_cannot_leave_the_root(name: bytes, path: bytes) -> None:
    assert only_change(file(name)) == Add(Regular(path, meta(), 0))
    assert only_change(header(b"l", b"1", link=name)) == Link(b"l", path, meta())


@pytest.mark.parametrize("name", [b"", b".", b"./", b"a/.."])
@pytest.mark.parametrize("kind", [b"5", b"0", b"Z"])
def test_the_root_by_its_own_name_is_passed_over(name: bytes, kind: bytes) -> None:
    assert changes(header(name, kind, mode=0o700)) == []


@pytest.mark.parametrize("name", [b"/", b"..", b"/.", b"../.."])
def test_the_root_by_another_name_gets_its_metadata(name: bytes) -> None:
    assert only_change(header(name, b"5", mode=0o1777, uid=5)) == Add(Directory(b"", meta(mode=0o1777, uid=5)))
    assert "root can only be a directory" in refusal(header(name))


def test_each_kind() -> None:
    assert only_change(header(b"d/", b"5", mode=0o47755)) == Add(Directory(b"d", meta(mode=0o7755)))
    assert only_change(header(b"d/", b"\0")) == Add(Directory(b"d", meta()))
    assert only_change(header(b"f/", b"0")) == Add(Regular(b"f", meta(), 0))
    assert only_change(header(b"s", b"2", link=b"../../t")) == Add(Symlink(b"s", meta(mode=0o777), b"../../t"))
    assert only_change(header(b"c", b"3", device=(5000, 1 << 20 | 300))) == Add(CharDevice(b"c", meta(), 904, 300))
    assert only_change(header(b"b", b"4", device=(8, 259))) == Add(BlockDevice(b"b", meta(), 8, 259))
    assert only_change(header(b"p", b"6")) == Add(Fifo(b"p", meta()))
    assert changes(pax({b"comment": b"x"}, b"g")) == []


def test_whiteouts() -> None:
    gone = Metadata(0, 5, 7, TIME * NS)
    assert only_change(header(b"d/.wh.x", uid=5, gid=7, mode=0o4644)) == Whiteout(b"d/x", gone)
    assert only_change(header(b".wh.weird", b"Z", uid=5, gid=7)) == Whiteout(b"weird", gone)
    assert only_change(header(b".wh..wh.plnk", uid=5, gid=7)) == Whiteout(b".wh.plnk", gone)
    assert only_change(header(b"d/.wh..wh..opq")) == Opaque(b"d")
    assert only_change(header(b".wh..wh..opq")) == Opaque(b"")
    for name in (b".wh.", b".wh..", b"d/.wh..."):
        assert "file exists" in refusal(header(name))


@pytest.mark.parametrize("kind", [b"7", b"V", b"S", b"Z", b"\x80"])
def test_kinds_that_engines_refuse(kind: bytes) -> None:
    block = header(b"odd", kind, magic=b"ustar  \0")
    assert "b'odd'" in refusal(block)


@pytest.mark.parametrize(
    ("written", "file_time", "link_time"),
    [
        (b"12.3456789019", 12_345_678_901, 12_345_678_901),
        (b"-5", 0, -5 * NS),
        (b"-1.5", 0, -1_500_000_000),
        (b"9223372036.854775807", (1 << 63) - 1, (1 << 63) - 1),
        (b"9223372036.854775808", 0, -(1 << 63)),
        (b"10413792000", 0, -8_032_952_073_709_551_616),
        (b"-62135596800", 0, 1_073_741_822),
    ],
)
def test_times_become_what_the_engine_sets(written: bytes, file_time: int, link_time: int) -> None:
    assert only_change(pax({b"mtime": written}), header(b"f")) == Add(Regular(b"f", meta(mtime=file_time), 0))
    link = only_change(pax({b"mtime": written}), header(b"s", b"2", link=b"t"))
    assert link == Add(Symlink(b"s", meta(mode=0o777, mtime=link_time), b"t"))


@pytest.mark.parametrize(
    ("written", "owner"), [(0xFFFFFFFF, 0), (-1, 0), (-2, 0xFFFFFFFE), ((1 << 32) + 7, 7), (70000, 70000)]
)
def test_owners_are_what_the_kernel_sees(written: int, owner: int) -> None:
    change = only_change(pax({b"uid": b"%d" % written, b"gid": b"%d" % written}), header(b"f"))
    assert change == Add(Regular(b"f", meta(uid=owner, gid=owner), 0))


def xattrs(records: dict[bytes, bytes], kind: bytes = b"0") -> dict[bytes, bytes]:
    written = {b"SCHILY.xattr." + key: value for key, value in records.items()}
    change = only_change(pax(written), header(b"f", kind, link=b"t"))
    assert isinstance(change, Add)
    return dict(change.entry.metadata.xattrs)


def test_xattrs_that_the_kernel_has_no_place_for_are_passed_over() -> None:
    acl = bytes.fromhex("02000000 01000600ffffffff 04000400ffffffff 20000000ffffffff")
    given_xattrs = {
        b"user.a": b"1",
        b"trusted.t": b"2\0",
        b"security.capability": CAPABILITY,
        b"foo.bar": b"x",
        b"system.x": b"y",
    }
    given_xattrs |= {b"system.posix_acl_access": acl}
    always = {b"trusted.t": b"2\0", b"security.capability": CAPABILITY}
    assert xattrs(given_xattrs) == always | {b"user.a": b"1", b"system.posix_acl_access": acl}
    assert xattrs(given_xattrs, b"6") == always | {b"system.posix_acl_access": acl}
    assert xattrs(given_xattrs, b"2") == always


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"", b"1"),
        (b"user.", b"1"),
        (b"security.capability", b"1"),
        (b"security.capability", CAPABILITY + b"\0"),
        (b"system.posix_acl_access", b"1"),
        (b"system.posix_acl_access", bytes.fromhex("0200000001")),
        (b"system.posix_acl_default", bytes.fromhex("0200000001000600ffffffff")),
        (b"user." + b"n" * 251, b"1"),
        (b"user.big", bytes(65537)),
    ],
)
def test_xattrs_on_which_the_engine_fails_are_refused(name: bytes, value: bytes) -> None:
    assert "b'f'" in refusal(pax({b"SCHILY.xattr." + name: value}), header(b"f"))


def test_lengths_that_linux_takes_and_not() -> None:
    longest = b"n" * 255
    assert only_change(pax({b"path": b".wh." + longest}), header(b"f")) == Whiteout(longest, meta(mode=0))
    assert "255 bytes" in refusal(pax({b"path": longest + b"n"}), header(b"f"))
    deep = b"/".join([b"d" * 199] * 20)
    assert only_change(pax({b"path": deep + b"x"}), header(b"f")) == Add(Regular(deep + b"x", meta(), 0))
    assert "a path over 4000" in refusal(pax({b"path": deep + b"xx"}), header(b"f"))
    assert "target" in refusal(pax({b"linkpath": b"t" * 4096}), header(b"s", b"2"))
    assert "an empty target" in refusal(header(b"s", b"2"))


def test_a_content_that_is_not_taken_is_passed_over() -> None:
    tar = file(b"small", b"s" * 10) + file(b"large", b"l" * 10_000) + file(b"last", b"end") + END

    def first_bytes(step: int) -> list[bytes]:
        with LayerReader(cut(tar, step), "layer") as reader:
            return [bytes(next(iter(content)))[:1] for _, content in reader if content is not None]

    assert first_bytes(1000) == first_bytes(1 << 20) == [b"s", b"l", b"e"]


def test_counters() -> None:
    with LayerReader(cut(file(b"a", b"x") + pax({b"c": b"d"}, b"g") + END + bytes(100)), "layer") as reader:
        with pytest.raises(ValueError, match="has not been read"):
            _ = reader.tar_split
        assert len(list(reader)) == 1
        assert (reader.entries, reader.tar_bytes) == (2, 1024 + 1024 + 1024 + 100)


@pytest.mark.parametrize("spell", [lambda name: name, lambda name: b"./" + name], ids=["same", "respelled"])
def test_duplicate_paths_are_refused(spell: Callable[[bytes], bytes]) -> None:
    assert "two entries called" in refusal(file(b"a/b"), file(spell(b"a/b")))
    assert "two entries called" in refusal(pax({b"c": b"d"}, b"g"), pax({b"c": b"d"}, b"g"))


def test_spellings_that_the_engine_does_not_know_for_duplicates_are_not() -> None:
    assert [change.entry.path for change, _ in changes(file(b"b"), file(b"/b")) if isinstance(change, Add)] == [
        b"b",
        b"b",
    ]


def test_an_archive_that_is_cut_off_inside_padding() -> None:
    tar = file(b"a", b"content")
    for cut in (1, 500, 505):
        reader = TarReader(cut_off(tar, cut), "layer")
        assert [entry.name for entry in reader] == [b"a"]
        assert (reader.end, reader.missing_padding) == (b"", cut)
    assert [entry.name for entry in TarReader(iter([tar]), "layer")] == [b"a"]
    with pytest.raises(LayerError, match="cut off inside padding that is not zeros"):
        list(TarReader(cut_off(tar[:-10] + b"x" + bytes(9), 5), "layer"))


def cut_off(tar: bytes, count: int) -> Iterator[bytes]:
    return iter([tar[:-count]])
