"""tar-split, written and read back; Debian's tar-split tool is the judge where it is installed."""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.digest import digest_of
from drypoint.errors import LayerError
from drypoint.layers import (
    FileRecord,
    LayerReader,
    TarReader,
    TarSplitWriter,
    assemble,
    decompress,
    read_tar_split,
    tar_chunks,
)
from drypoint.layers.tarsplit import clean_name
from drypoint.oci import Descriptor, Layer

NOISE = random.Random(11).randbytes(3 << 20)
TOOL = shutil.which("tar-split")


def cut(blob: bytes, step: int = 1 << 20) -> Iterator[bytes]:
    for start in range(0, len(blob), step):
        yield blob[start : start + step]


def archive(members: dict[bytes, bytes], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    """As tarfile writes it: padded to 10,240 bytes, so with some padding after its end."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format, errors="surrogateescape") as writer:
        for name, content in members.items():
            info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    return stream.getvalue()


ODD_NAMES = archive(
    {
        b"plain": b"content",
        b"dir/empty": b"",
        b'a<b>&"quoted\\': b"1",
        b"\x01control\x7f\t\r\n\x08": b"2",
        "line\u2028and\u2029".encode(): b"3",
        "caf\u00e9 \U0001f40b".encode(): b"4",
        b"latin caf\xe9": b"5",
        b"n" * 150 + b"/" + b"n" * 150: b"6",
        b"large": NOISE,
    }
)


def split(tar: bytes, step: int = 1 << 20, *, final_empty_segment: bool = True) -> bytes:
    with LayerReader(cut(tar, step), "layer", final_empty_segment=final_empty_segment) as reader:
        for _ in reader:
            pass
        compressed = b"".join(reader.tar_split.chunks())
        assert len(compressed) == reader.tar_split.size
        return compressed


def contents(tar: bytes) -> dict[bytes, bytes]:
    reader = TarReader(cut(tar), "layer")
    return {entry.name: b"".join(bytes(piece) for piece in reader.content()) for entry in reader}


def rebuild(compressed: bytes, files: dict[bytes, bytes]) -> bytes:
    records = read_tar_split(cut(compressed, 1000), "layer")
    return b"".join(bytes(piece) for piece in assemble(records, lambda name: cut(files[name], 777), "layer"))


@pytest.mark.skipif(TOOL is None, reason="needs Debian's tar-split")
@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [1 << 20, 5000, 513])
def test_the_tool_writes_the_same(tmp_path: Path, tar_format: int, step: int) -> None:
    for name, tar in {
        "odd": ODD_NAMES,
        "formats": archive({b"d" * 120 + b"/f": b"x" * 5000, "\u00e9".encode(): b""}, tar_format),
        "no-end": archive({b"f": b"content"})[:1024],
        "cut-padding": archive({b"f": b"content"})[:700],
        "one-zero-block": archive({b"f": b"content"})[:1536],
        "garbage-after": archive({b"f": b"content"}) + b"garbage",
        "nothing": b"",
    }.items():
        (tmp_path / "tar").write_bytes(tar)
        subprocess.run(
            [str(TOOL), "disasm", "--no-stdout", "--output", tmp_path / "out", tmp_path / "tar"],
            check=True,
            capture_output=True,
        )
        assert gzip.decompress(split(tar, step)) == gzip.decompress((tmp_path / "out").read_bytes()), name


@pytest.mark.skipif(TOOL is None, reason="needs Debian's tar-split")
def test_the_tool_rebuilds_the_tar_from_ours(tmp_path: Path) -> None:
    tar = archive({b"a": b"content", b"d/b": NOISE})
    (tmp_path / "split").write_bytes(split(tar))
    (tmp_path / "tree").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "tree", "-x"], input=tar, check=True)
    subprocess.run(
        [str(TOOL), "asm", "--input", tmp_path / "split", "--output", tmp_path / "tar", "--path", tmp_path / "tree"],
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "tar").read_bytes() == tar


def test_lines_are_spelled_as_go_spells_them() -> None:
    writer = TarSplitWriter("layer")
    writer.segment(b"head")
    writer.file("<\u2028\\\b".encode(), 0, None)
    writer.file(b"\xff", -5, None)
    writer.file(b"", 7, 1)
    writer.segment(b"")
    split_file = writer.finish()
    assert b"".join(decompress(split_file.chunks(), "x")).splitlines() == [
        b'{"type":2,"payload":"aGVhZA==","position":0}',
        b'{"type":1,"name":"\\u003c\\u2028\\\\\\u0008","payload":null,"position":1}',
        b'{"type":1,"name_raw":"/w==","size":-5,"payload":null,"position":2}',
        b'{"type":1,"size":7,"payload":"AAAAAAAAAAE=","position":3}',
        b'{"type":2,"payload":"","position":4}',
    ]
    split_file.close()


def segments_after_last_file(tar: bytes, blob: bytes) -> list[int]:
    layer = Layer(Descriptor("x", digest_of(blob), len(blob)), digest_of(tar), digest_of(tar), None)
    with tar_chunks(cut(blob), layer, "layer") as chunks, LayerReader(chunks, "layer") as reader:
        for _ in reader:
            pass
        records = list(read_tar_split(reader.tar_split.chunks(), "layer"))
    last = max(index for index, record in enumerate(records) if isinstance(record, FileRecord))
    return [len(record) for record in records[last + 1 :] if isinstance(record, bytes)]


@pytest.mark.parametrize(
    ("padding", "plain", "compressed"),
    [
        # As dockerd 20.10.24 wrote them when it pulled. 1535: the content's padding and the two blocks that end the archive.
        (0, [1535, 0], [1535, 0]),
        (8192, [1535, 8192, 0], [1535, 8192]),
        (31744, [1535, 30720, 1024, 0], [1535, 30720, 1024]),
        (63488, [1535, 30720, 32768, 0], [1535, 30720, 32768, 0]),
        (98976, [1535, 30720, 32768, 32768, 2720, 0], [1535, 30720, 32768, 32768, 2720]),
        (3144704, [1535, 30720, *[32768] * 95, 1024, 0], [1535, 30720, *[32768] * 95, 1024]),
    ],
)
def test_padding_is_recorded_in_the_engines_pieces(padding: int, plain: list[int], compressed: list[int]) -> None:
    tar = archive({b"b": b"1"})[:1024] + bytes(1024 + padding)
    assert segments_after_last_file(tar, tar) == plain
    assert segments_after_last_file(tar, gzip.compress(tar)) == compressed


@pytest.mark.parametrize("segments", [0, 1, 3000])
def test_the_gzip_member_is_that_of_gzip(segments: int) -> None:
    writer = TarSplitWriter("layer")
    for number in range(segments):
        writer.segment(random.Random(number).randbytes(300))
    compressed = b"".join(writer.finish().chunks())
    writer.close()
    lines = gzip.decompress(compressed)
    assert lines.count(b"\n") == segments
    # As Go's reader and gzip(1) see it: header, checksum and length, which Python's gzip checks as well.
    judged = subprocess.run(["gzip", "-dc"], input=compressed, capture_output=True, check=True)
    assert judged.stdout == lines
    assert compressed[:10] == gzip.compress(b"", 1, mtime=0)[:8] + b"\x04\x03"
    broken = bytearray(compressed)
    broken[-8] ^= 1
    assert subprocess.run(["gzip", "-dc"], input=broken, capture_output=True).returncode == 1


def test_newer_engines_write_no_empty_segment() -> None:
    lines = gzip.decompress(split(ODD_NAMES)).splitlines()
    assert gzip.decompress(split(ODD_NAMES, final_empty_segment=False)).splitlines() == lines[:-1]
    assert json.loads(lines[-1])["payload"] == ""


def test_the_same_tar_gives_the_same_bytes_and_a_large_one_can_be_read_twice() -> None:
    tar = archive({b"%06d" % index: NOISE[index : index + 20] for index in range(3000)})
    assert split(tar) == split(tar, 5001)
    writer = TarSplitWriter("layer")
    for start in range(0, 3 << 20, 1 << 16):
        for _ in range(8):
            writer.segment(NOISE[start : start + (1 << 16)])
    split_file = writer.finish()
    first, second = list(split_file.chunks()), list(split_file.chunks())
    assert first == second
    assert sum(map(len, first)) == split_file.size > 16 << 20
    split_file.close()


@given(
    members=st.dictionaries(
        st.binary(min_size=1, max_size=200).filter(lambda name: b"\0" not in name), st.binary(max_size=1500), max_size=4
    ),
    tail=st.binary(max_size=1200),
    length=st.integers(0, 20_000),
    step=st.integers(1, 3000),
)
def test_what_starts_as_a_tar_comes_back(members: dict[bytes, bytes], tail: bytes, length: int, step: int) -> None:
    tar = archive(members)[:length] + tail
    try:
        compressed = split(tar, step)
        files = contents(tar)
    except LayerError:
        return
    rebuilt = rebuild(compressed, files)
    reader = TarReader(cut(tar), "layer")
    for _ in reader:
        pass
    # An archive that ends inside the padding of its last content loses that piece of padding: engines do so too.
    lost = len(tar) - len(rebuilt) if not reader.end else 0
    assert rebuilt == tar[: len(tar) - lost]
    assert lost < 512


def test_assembling_finds_wrong_content() -> None:
    compressed, files = split(ODD_NAMES), contents(ODD_NAMES)
    assert rebuild(compressed, files) == ODD_NAMES
    for name, content in {b"plain": b"cOntent", b"large": NOISE[:-1], b"latin caf\xe9": b"55"}.items():
        with pytest.raises(LayerError, match="not what the tar-split recorded"):
            rebuild(compressed, files | {name: content})


def test_lines_are_read_as_go_reads_them() -> None:
    lines = (
        b'{"TYPE":2,"Payload":"QU\\nI=","position":null,"other":[1]}\n'
        b'{"type":1,"name":"a","name":null,"size":1,"Size":0,"position":1}\n'
        b'{"type":2,"payload":"QUI=","payload":null,"position":2}\n'
    )
    assert list(read_tar_split(iter([gzip.compress(lines)]), "x")) == [b"AB", FileRecord(b"a", b"a", 0, None), b""]


def test_damaged_tar_splits_are_refused() -> None:
    lines = gzip.decompress(split(ODD_NAMES)).splitlines(keepends=True)

    def read(*parts: bytes) -> None:
        list(read_tar_split(cut(gzip.compress(b"".join(parts))), "layer"))

    read(*lines)
    for parts, says in (
        (lines[1:], "position"),
        ([lines[0][:-1]], "cut off"),
        ([b"{}\n"], "unknown type 0"),
        ([b"x\n"], "not well formed"),
        ([b'{"type":3,"payload":null,"position":0}\n'], "unknown type 3"),
        ([b'{"type":1,"name":"a","payload":"AAAA","position":0}\n'], "checksum of 3 bytes"),
        ([b'{"type":1,"name":"a","position":0}\n', b'{"type":1,"name":"./a","position":1}\n'], "twice"),
        ([b"x" * (33 << 20)], "more than"),
    ):
        with pytest.raises(LayerError, match=says):
            read(*parts)
    with pytest.raises(LayerError, match="truncated"):
        list(read_tar_split(cut(split(ODD_NAMES)[:-9]), "layer"))


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        (b"", b"."),
        (b".", b"."),
        (b"./", b"."),
        (b"/", b"/"),
        (b"/..", b"/"),
        (b"..", b".."),
        (b"../../a", b"../../a"),
        (b"a/../..", b".."),
        (b"a/../../b", b"../b"),
        (b"/a/../../b", b"/b"),
        (b"a//b/./c/", b"a/b/c"),
        (b"./a", b"a"),
        (b".//a", b"a"),
        (b".///", b"."),
        (b"./.hidden/", b".hidden"),
        (b"a/.b", b"a/.b"),
        (b"a/b..", b"a/b.."),
        (b"a/...", b"a/..."),
    ],
)
def test_names_are_cleaned_as_go_cleans_them(name: bytes, cleaned: bytes) -> None:
    assert clean_name(name) == cleaned


@given(st.text("./ab", max_size=12).map(str.encode))
def test_names_are_cleaned_as_posix_normalises_them(name: bytes) -> None:
    """Two leading slashes apart, which POSIX keeps."""
    normal = posixpath.normpath(name)
    assert clean_name(name) == (normal[1:] if normal.startswith(b"//") else normal)
