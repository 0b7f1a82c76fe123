"""Disk images in every format: what the real tools say of ours, what we say of theirs, and damage that must not pass."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import random
import subprocess
import sys
import threading
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.notes import Notes

from drypoint import decompression
from drypoint.disk import FileDevice
from drypoint.disk.formats import (
    Encoding,
    ImageFormat,
    decompressed,
    format_of_content,
    format_of_name,
    member_name,
    opened_image,
    write_image,
    xz,
)
from drypoint.disk.host.output import whole_file
from drypoint.disk.host.scratch import path_of
from drypoint.errors import DiskImageError, OutputError, UsageError
from drypoint.samples.tools import find_tool

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
PACKED = [kind for kind in ImageFormat if kind is not ImageFormat.RAW]
STREAMED = [ImageFormat.GZIP, ImageFormat.XZ, ImageFormat.ZSTD]
SUFFIXES = {"raw": ".img", "gzip": ".img.gz", "xz": ".img.xz", "zstd": ".img.zst", "zip": ".img.zip"}
PACK: dict[ImageFormat, Callable[[bytes], bytes]] = {
    ImageFormat.GZIP: lambda data: gzip.compress(data, 1),
    ImageFormat.XZ: lambda data: lzma.compress(data, preset=0),
    ImageFormat.ZSTD: zstd.compress,
}
NOISE = random.Random(11).randbytes(MIB + 12345)


def sparse(path: Path, size: int, *parts: tuple[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, content in parts:
            file.seek(offset)
            file.write(content)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Content, holes of many pieces and of less than one, and an odd end."""
    path = tmp_path_factory.mktemp("formats") / "disk.img"
    text = b"".join(b"line %d of a text\n" % number for number in range(60_000))
    return sparse(path, 9 * MIB + 777, (0, text), (4 * MIB - 500, NOISE), (9 * MIB, b"end"))


def written(source: Path, target: Path, *, workers: int | None = None, level: int | None = None) -> Path:
    with source.open("rb") as reading_from, target.open("wb") as writing_to:
        kind = format_of_name(target)
        # What is asked for here holds at every level, and xz takes its time.
        chosen = 0 if level is None and kind is ImageFormat.XZ else level
        write_image(
            reading_from.fileno(),
            source.stat().st_size,
            writing_to.fileno(),
            Encoding(kind, member_name(target), timestamp=1_700_000_000, level=chosen),
            workers=workers,
        )
    return target


def packed(kind: ImageFormat, content: bytes, directory: Path) -> Path:
    """By Python's own modules."""
    path = directory / f"theirs{SUFFIXES[kind]}"
    if kind is ImageFormat.ZIP:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("theirs.img", content)
    else:
        path.write_bytes(PACK[kind](content))
    return path


def unpacked(path: Path) -> bytes:
    with opened_image(path) as opened:
        return opened.device.read(0, opened.device.size)


@pytest.mark.parametrize(
    ("name", "kind", "member"),
    [
        ("a.img", "raw", "a.img"),
        ("a", "raw", "a.img"),
        ("release.v2", "raw", "release.v2"),
        ("a.bin", "raw", "a.bin"),
        ("a.img.gz", "gzip", "a.img"),
        ("a.IMG.XZ", "xz", "a.IMG"),
        ("a.zst", "zstd", "a.img"),
        ("dir.zip/a.raw.zip", "zip", "a.raw"),
    ],
)
def test_the_format_by_name(name: str, kind: str, member: str) -> None:
    assert format_of_name(Path(name)) == kind
    assert member_name(Path(name)) == member


@pytest.mark.parametrize("name", ["a.img.bz2", "a.7z", "a.img.LZ4"])
def test_a_name_of_a_format_that_is_not_written(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be written as \.\w+; choose gzip \(\.gz\)"):
        format_of_name(Path(name))


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.needs("gzip", "xz", "zstd", "unzip", "cmp")
def test_the_real_tools_take_what_we_write(image: Path, tmp_path: Path, kind: ImageFormat) -> None:
    path = written(image, tmp_path / f"ours{SUFFIXES[kind]}")
    judge, out = {
        "gzip": (["gzip", "-t"], ["gzip", "-dc"]),
        "xz": (["xz", "-tv"], ["xz", "-T0", "-dc"]),
        "zstd": (["zstd", "-tq"], ["zstd", "-dcq"]),
        "zip": (["unzip", "-tq"], ["unzip", "-p"]),
    }[kind]
    subprocess.run([find_tool(judge[0]), *judge[1:], path], check=True, capture_output=True)
    done = subprocess.run([find_tool(out[0]), *out[1:], path], check=True, stdout=subprocess.PIPE)
    assert done.stdout == image.read_bytes()
    assert path.stat().st_size < image.stat().st_size / 2


@pytest.mark.needs("xz")
def test_xz_lists_blocks_that_can_be_undone_in_parallel(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xz, "BLOCK_SIZE", MIB)
    path = written(image, tmp_path / "ours.img.xz")
    assert unpacked(path) == image.read_bytes()
    done = subprocess.run([find_tool("xz"), "--robot", "-lvv", path], check=True, capture_output=True, text=True)
    blocks = [line.split("\t") for line in done.stdout.splitlines() if line.startswith("block")]
    assert [int(block[7]) for block in blocks] == [MIB] * 9 + [777]
    assert {block[9] for block in blocks} == {"CRC64"}
    # Sizes are in the headers of blocks: "cu" among their flags.
    assert {block[12] for block in blocks} == {"cu"}


def test_python_reads_our_zip(image: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(written(image, tmp_path / "übung.img.zip")) as archive:
        (member,) = archive.infolist()
        assert (member.filename, member.date_time) == ("übung.img", (2023, 11, 14, 22, 13, 20))
        assert member.external_attr >> 16 == 0o100644
        assert archive.testzip() is None
        assert archive.read(member) == image.read_bytes()


def test_gzip_says_the_time_and_no_name(image: Path, tmp_path: Path) -> None:
    head = written(image, tmp_path / "ours.img.gz").read_bytes()[:10]
    assert head == b"\x1f\x8b\x08\0" + (1_700_000_000).to_bytes(4, "little") + b"\0\3"


@pytest.mark.parametrize("kind", ImageFormat)
def test_the_number_of_cores_changes_no_byte(
    image: Path, tmp_path: Path, kind: ImageFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xz, "BLOCK_SIZE", MIB)
    results = {
        written(image, tmp_path / f"{n}" / SUFFIXES[kind], workers=n).read_bytes() for n in made(tmp_path, 1, 2, 5)
    }
    assert len(results) == 1


def made(directory: Path, *numbers: int) -> tuple[int, ...]:
    for number in numbers:
        (directory / str(number)).mkdir()
    return numbers


@pytest.mark.parametrize("kind", PACKED)
def test_zeros_that_are_no_hole_make_the_same_bytes(tmp_path: Path, kind: ImageFormat) -> None:
    holes = sparse(tmp_path / "holes.img", 3 * MIB, (MIB + 5, b"x"))
    full = tmp_path / "full.img"
    full.write_bytes(holes.read_bytes())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = [written(one, tmp_path / where / SUFFIXES[kind]) for one, where in ((holes, "a"), (full, "b"))]
    assert ours[0].read_bytes() == ours[1].read_bytes()


@pytest.mark.parametrize("kind", ImageFormat)
@pytest.mark.parametrize("size", [0, 1, 4096, MIB, MIB + 1, 3 * MIB])
def test_holes_alone(tmp_path: Path, kind: ImageFormat, size: int) -> None:
    path = written(sparse(tmp_path / "disk", size), tmp_path / f"out{SUFFIXES[kind]}")
    with opened_image(path) as opened:
        assert opened.device.read(0, size) == bytes(size)
        assert opened.device.size == size
        assert not list(opened.device.data_extents(0, size))


@given(
    parts=st.lists(st.tuples(st.integers(0, 5 * MIB), st.binary(min_size=1, max_size=200), st.integers(1, 9000))),
    size=st.integers(0, 5 * MIB),
    kind=st.sampled_from(PACKED),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sparse_file_comes_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, bytes, int]], size: int, kind: ImageFormat
) -> None:
    directory = tmp_path_factory.mktemp("any")
    source = sparse(directory / "disk", 0, *((offset, content * times) for offset, content, times in parts))
    os.truncate(source, size)
    path = written(source, directory / f"out{SUFFIXES[kind]}", level=1)
    assert unpacked(path) == source.read_bytes()


@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_image_is_a_sparse_scratch_file(image: Path, tmp_path: Path, kind: ImageFormat) -> None:
    path = packed(kind, image.read_bytes(), tmp_path)
    before = path.read_bytes()
    with opened_image(path, directory=tmp_path) as opened:
        assert (opened.format, opened.is_scratch, opened.device.name) == (kind, True, str(path))
        assert opened.device.read(0, opened.device.size) == image.read_bytes()
        assert os.fstat(opened.device.fileno()).st_blocks <= image.stat().st_blocks + 16
        opened.device.write(0, b"changed")
        location, _ = opened.device.location
        assert location.read_bytes().startswith(b"changed")
        assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before
    assert not location.exists()


def test_scratch_becomes_the_output_without_a_copy(image: Path, tmp_path: Path) -> None:
    path = packed(ImageFormat.GZIP, image.read_bytes(), tmp_path)
    with opened_image(path, directory=tmp_path) as opened, whole_file(tmp_path / "out.img") as part:
        part.adopt(opened.device.fileno())
        assert part.path.stat().st_ino == os.fstat(opened.device.fileno()).st_ino
    assert (tmp_path / "out.img").read_bytes() == image.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_raw_image_stays_where_it_is(image: Path) -> None:
    with opened_image(image) as opened:
        assert (opened.format, opened.is_scratch, opened.device.name) == (ImageFormat.RAW, False, str(image))
        assert opened.device.location == (image, 0)
        with pytest.raises(DiskImageError, match="cannot write"):
            opened.device.write(0, b"x")


@pytest.mark.parametrize("kind", STREAMED)
def test_members_streams_and_frames_are_one_image(tmp_path: Path, kind: ImageFormat) -> None:
    pack = PACK[kind]
    path = tmp_path / "many"
    path.write_bytes(pack(NOISE[:5000]) + pack(b"") + pack(NOISE[5000:]))
    assert unpacked(path) == NOISE


@pytest.mark.parametrize(
    ("kind", "between"),
    [(ImageFormat.XZ, bytes(8)), (ImageFormat.ZSTD, b"\x5a\x2a\x4d\x18\3\0\0\0abc")],
)
def test_what_may_lie_between(kind: ImageFormat, between: bytes) -> None:
    pack = PACK[kind]
    blob = pack(b"one") + between + pack(b"two") + between
    for step in (1, 7, 4096):
        assert b"".join(decompressed(cut(blob, step), kind, "x")) == b"onetwo"


def cut(blob: bytes, step: int) -> Iterator[bytes]:
    for start in range(0, len(blob), step):
        yield blob[start : start + step]


@pytest.mark.parametrize("isal", [True, False])
@pytest.mark.parametrize("zeros", [1, 511, MIB + 1])
def test_gzip_may_end_in_zeros(monkeypatch: pytest.MonkeyPatch, isal: bool, zeros: int) -> None:
    if not isal:
        monkeypatch.setattr(decompression, "ISAL_ERRORS", ())
    blob = gzip.compress(b"one") + gzip.compress(b"two") + bytes(zeros)
    assert b"".join(decompressed(cut(blob, 4096), ImageFormat.GZIP, "x")) == b"onetwo"


TRAILING = {
    "metadata": b'{"metadata_version": "1.1", "compat_version": "1.0"}FWx0' + bytes(range(256)),
    "one byte": b"\x1f",
    "half a magic number": b"\x1f\x8b",
    "zeros": bytes(4),
    "odd zeros": bytes(3),
    "a block of zeros": bytes(5000),
    "zeros and more": bytes(512) + b"more",
    "a gzip header of no member": b"\x1f\x8b\x07" + bytes(20),
    "another format": b"PK\3\4" + bytes(100),
}


@pytest.mark.parametrize("isal", [True, False])
@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize("case", TRAILING)
@pytest.mark.needs("gzip", "xz", "zstd")
def test_what_follows_whole_data_is_ignored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: ImageFormat, case: str, isal: bool
) -> None:
    if not isal:
        monkeypatch.setattr(decompression, "ISAL_ERRORS", ())
    blob = PACK[kind](b"one" * 999) + PACK[kind](b"two") + TRAILING[case]
    silent = case in ("zeros", "a block of zeros") or (case == "odd zeros" and kind is not ImageFormat.XZ)
    text = f"warning: x goes on after the end of its {kind} data; what follows is not part of the disk image"
    for step in (1, 5, 4096):
        warned = Notes()
        assert b"".join(decompressed(cut(blob, step), kind, "x", warned)) == b"one" * 999 + b"two"
        assert warned.texts == ([] if silent else [text])
    path = tmp_path / "packed"
    path.write_bytes(blob)
    # The real program gives the same bytes, whatever it says then.
    program = subprocess.run([find_tool(kind), "-dc"], input=blob, capture_output=True, check=False)
    assert program.stdout == b"one" * 999 + b"two"
    assert unpacked(path) == program.stdout


@pytest.mark.parametrize("kind", [ImageFormat.XZ, ImageFormat.ZSTD])
def test_a_stream_behind_odd_zeros_is_an_error(kind: ImageFormat) -> None:
    # Its content would be missing without a word: neither program reads on there.
    blob = PACK[kind](b"one") + bytes(3) + PACK[kind](b"two")
    with pytest.raises(DiskImageError, match=f"another {kind} stream follows 3 zero bytes"):
        list(decompressed([blob], kind, "x"))


@pytest.mark.needs("gzip")
def test_a_gzip_member_behind_zeros_is_not_read_as_by_gzip() -> None:
    warned = Notes()
    blob = gzip.compress(b"one") + bytes(3) + gzip.compress(b"two")
    assert b"".join(decompressed([blob], ImageFormat.GZIP, "x", warned)) == b"one"
    assert len(warned.texts) == 1
    done = subprocess.run([find_tool("gzip"), "-dc"], input=blob, capture_output=True, check=False)
    assert done.stdout == b"one"


@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize("left", [11, 3000, -1, -9])
def test_a_cut_is_an_error(tmp_path: Path, kind: ImageFormat, left: int) -> None:
    path = tmp_path / "disk.img.packed"
    path.write_bytes(PACK[kind](NOISE)[:left])
    with pytest.raises(DiskImageError, match=rf"disk\.img\.packed: the {kind} stream is truncated"):
        unpacked(path)


@given(data=st.data(), kind=st.sampled_from([ImageFormat.GZIP, ImageFormat.XZ, ImageFormat.ZSTD]))
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_changes_the_image(data: st.DataObject, kind: ImageFormat) -> None:
    content = NOISE[:3000] + bytes(3000)
    compressor = {
        "gzip": lambda: gzip.compress(content, mtime=0),
        "xz": lambda: lzma.compress(content),
        "zstd": lambda: zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}),
    }
    blob = bytearray(compressor[kind]())
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[bit // 8] ^= 1 << bit % 8
    try:
        found = b"".join(decompressed([bytes(blob)], kind, "x"))
    except DiskImageError:
        return
    # Some bits mean nothing: a time, a dictionary larger than needed.
    assert found == content


@pytest.mark.parametrize("kind", STREAMED)
def test_a_bomb_costs_no_memory(kind: ImageFormat) -> None:
    member = PACK[kind](bytes(16 * MIB))
    tracemalloc.start()
    total = 0
    for chunk in decompressed([member * 4], kind, "x"):
        assert len(chunk) <= MIB
        total += len(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 64 * MIB
    assert peak < 8 * MIB


def test_windows_up_to_a_bound() -> None:
    for window, error in ((27, None), (30, "bytes of history")):
        options: dict[int, int] = {
            zstd.CompressionParameter.window_log: window,
            zstd.CompressionParameter.content_size_flag: 0,
        }
        compressor = zstd.ZstdCompressor(options=options)
        blob = compressor.compress(b"content") + compressor.flush()
        if error is None:
            assert b"".join(decompressed([blob], ImageFormat.ZSTD, "x")) == b"content"
        else:
            with pytest.raises(DiskImageError, match=error):
                list(decompressed([blob], ImageFormat.ZSTD, "x"))


def test_xz_that_wants_absurd_memory() -> None:
    blob = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}])
    # The dictionary's size is one byte of the block's header, whose CRC is made right again.
    block = bytearray(blob[12:24])
    block[4] = 34
    block[8:12] = zlib.crc32(block[:8]).to_bytes(4, "little")
    with pytest.raises(DiskImageError, match=r"Memory usage limit|more memory"):
        list(decompressed([blob[:12] + bytes(block) + blob[24:]], ImageFormat.XZ, "x"))


def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    path = tmp_path / "disk.img.bz2"
    path.write_bytes(b"BZh91AY&SY")
    with pytest.raises(DiskImageError, match=r"disk\.img\.bz2 is bzip2-compressed, which is not supported"):
        unpacked(path)
    with pytest.raises(DiskImageError, match="cannot be read as a stream"):
        list(decompressed([b"PK\3\4"], ImageFormat.ZIP, "x"))
    with FileDevice(sparse(tmp_path / "empty", 0)) as device:
        assert format_of_content(device) is ImageFormat.RAW


def test_a_level_that_is_none(image: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gzip has no compression level 10; choose one from 1 to 9"):
        written(image, tmp_path / "out.img.gz", level=10)


def test_a_source_that_gets_shorter(image: Path, tmp_path: Path) -> None:
    for kind in PACKED:
        with image.open("rb") as source, (tmp_path / "out").open("wb") as target:
            with pytest.raises(DiskImageError, match="ends at byte"):
                write_image(source.fileno(), image.stat().st_size + 9, target.fileno(), Encoding(kind, "x.img"))


@pytest.mark.parametrize("kind", ImageFormat)
def test_a_full_disk_is_the_callers_to_name(image: Path, kind: ImageFormat) -> None:
    with image.open("rb") as source, open("/dev/full", "wb") as target:
        with pytest.raises(OutputError, match="cannot write the disk image as") as caught:
            write_image(source.fileno(), image.stat().st_size, target.fileno(), Encoding(kind, "x.img"))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


@pytest.mark.parametrize(("chosen", "way_out"), [(True, "write to another directory"), (False, "set TMPDIR")])
def test_no_room_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: bool, way_out: str) -> None:
    path = packed(ImageFormat.GZIP, NOISE, tmp_path)

    def full(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("drypoint.disk.formats.sparse.os.pwrite", full)
    with pytest.raises(OutputError, match=rf"the file system of {tmp_path} is full .*{way_out}"):
        with opened_image(path, directory=tmp_path if chosen else None):
            pytest.fail("it must not open")


def test_a_pipe_takes_a_raw_image_too(image: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat, image.open("rb") as source:
        assert cat.stdin is not None
        assert cat.stdout is not None
        collected = io.BytesIO()
        read_end = cat.stdout
        reader = threading.Thread(target=lambda: collected.write(read_end.read()))
        reader.start()
        write_image(source.fileno(), image.stat().st_size, cat.stdin.fileno(), Encoding(ImageFormat.RAW, "x.img"))
        cat.stdin.close()
        reader.join()
    assert collected.getvalue() == image.read_bytes()


def test_a_raw_copy_keeps_holes(image: Path, tmp_path: Path) -> None:
    path = written(image, tmp_path / "copy.img")
    assert path.read_bytes() == image.read_bytes()
    assert path.stat().st_blocks <= image.stat().st_blocks + 8


def test_progress_is_told_in_both_ways(image: Path, tmp_path: Path) -> None:
    for kind in PACKED:
        told = Told()
        path = tmp_path / f"out{SUFFIXES[kind]}"
        with image.open("rb") as source, path.open("wb") as target:
            write_image(source.fileno(), image.stat().st_size, target.fileno(), Encoding(kind, "x.img"), progress=told)
        with opened_image(path, progress=told):
            pass
        (_, written_total, written_sum), (_, read_total, read_sum) = told.steps
        assert written_total == written_sum == image.stat().st_size
        # An archive's own records are not content.
        assert read_total == path.stat().st_size
        assert read_total - 300 <= read_sum <= read_total


class Told:
    def __init__(self) -> None:
        self.steps: list[tuple[str, int | None, int]] = []

    def begin(self, what: str, total: int | None = None) -> Told:
        self.steps.append((what, total, 0))
        return self

    def note(self, text: str) -> None:
        raise AssertionError(text)

    def advance(self, amount: int) -> None:
        what, total, done = self.steps[-1]
        self.steps[-1] = (what, total, done + amount)

    def end(self) -> None:
        return


def test_scratch_can_be_opened_by_other_programs(image: Path, tmp_path: Path) -> None:
    with opened_image(packed(ImageFormat.XZ, image.read_bytes(), tmp_path)) as opened:
        path = path_of(opened.device.fileno())
        done = subprocess.run(["cmp", path, image], check=False)
        assert done.returncode == 0
