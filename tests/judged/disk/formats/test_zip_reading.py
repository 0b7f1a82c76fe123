"""Zip archives: which member is the disk image, and what is refused."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint import decompression
from drypoint.disk import FileDevice
from drypoint.disk.formats import Encoding, ImageFormat, opened_image, write_image, zip_writing
from drypoint.disk.formats.zip_reading import find_image, member_content
from drypoint.errors import DiskImageError
from drypoint.samples.tools import find_tool

CONTENT = random.Random(5).randbytes(9000) + bytes(50_000) + b"text " * 4000


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, stream: bool = False) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(_Pipe(target) if stream else target, "w", method) as made:
        for name, content in members:
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.compress_type = method
            with made.open(info, "w", force_zip64=stream) as member:
                member.write(content)
    return target.getvalue()


class _Pipe(io.RawIOBase):
    """Nobody can go back in it, so that sizes follow the content."""

    def __init__(self, target: io.BytesIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self._target.write(bytes(data))  # type: ignore[call-overload]


GOOD = archive(("disk.img", CONTENT))


def content_of(directory: Path, blob: bytes) -> bytes:
    path = directory / "disk.img.zip"
    path.write_bytes(blob)
    with opened_image(path) as opened:
        return opened.device.read(0, opened.device.size)


@pytest.mark.parametrize("isal", [True, False])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("stream", [False, True])
def test_one_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isal: bool, method: int, stream: bool) -> None:
    if not isal:
        monkeypatch.setattr(decompression, "ISAL_ERRORS", ())
    assert content_of(tmp_path, archive(("disk.img", CONTENT), method=method, stream=stream)) == CONTENT


@pytest.mark.parametrize(
    "others",
    [
        [("dir/", b"")],
        [("__MACOSX/._disk.img", b"resource fork"), ("dir/", b"")],
        [("README.txt", b"read me"), ("LICENSE", b"...")],
        [("._disk.img", b"fork"), (".DS_Store", b"x")],
        [("dir/__MACOSX/dir/._disk.img", b"fork"), ("dir/__MACOSX/disk.img", b"fork")],
        [("dir/sub/._other.img", b"fork"), ("dir\\._third.img", b"fork")],
    ],
)
def test_what_does_not_count(tmp_path: Path, others: list[tuple[str, bytes]]) -> None:
    assert content_of(tmp_path, archive(*others, ("dir/disk.img", CONTENT))) == CONTENT


def test_the_only_file_may_have_any_name(tmp_path: Path) -> None:
    assert content_of(tmp_path, archive(("balena.rpi-sdimg", CONTENT))) == CONTENT


def test_an_archive_with_a_comment(tmp_path: Path) -> None:
    comment = b"PK\5\6 is no end"
    assert content_of(tmp_path, GOOD[:-2] + struct.pack("<H", len(comment)) + comment) == CONTENT


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "holds no disk image"),
        ([("dir/", b"")], "holds no disk image"),
        ([("a.img", b"x"), ("b.img", b"y")], r"there are 2 files \(a\.img, b\.img, \.\.\.\)"),
        ([("a", b"x"), ("b", b"y")], r"there are 2 files \(a, b"),
    ],
)
def test_none_or_several(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    with pytest.raises(DiskImageError, match=message):
        content_of(tmp_path, archive(*members))


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_methods_that_are_not_supported(tmp_path: Path, method: int, name: str) -> None:
    with pytest.raises(DiskImageError, match=rf"disk\.img is compressed with {name}, but only Deflate"):
        content_of(tmp_path, archive(("disk.img", CONTENT), method=method))


@pytest.mark.needs("zip")
def test_encryption(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(CONTENT)
    command = [find_tool("zip"), "-qjP", "secret", str(tmp_path / "enc.zip"), str(tmp_path / "disk.img")]
    subprocess.run(command, check=True)
    with pytest.raises(DiskImageError, match=r"disk\.img is encrypted; unpack it first"):
        content_of(tmp_path, (tmp_path / "enc.zip").read_bytes())


def changed(blob: bytes, magic: bytes, offset: int, value: bytes) -> bytes:
    """*blob* with *value* at *offset* of the record that begins with *magic*."""
    at = blob.index(magic) + offset
    return blob[:at] + value + blob[at + len(value) :]


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (GOOD[:-1], "not a whole zip archive: its directory is missing; was its download cut short"),
        (GOOD[:5000], "not a whole zip archive"),
        (changed(GOOD, b"PK\1\2", 16, b"\0\0\0\0"), "its CRC-32 is [0-9a-f]{8}, but the archive says 00000000"),
        (changed(GOOD, b"PK\1\2", 24, struct.pack("<I", 78_999)), "it holds more than the 78999 bytes"),
        (changed(GOOD, b"PK\1\2", 24, struct.pack("<I", 79_001)), "it holds 79000 instead of the 79001 bytes"),
        (changed(GOOD, b"PK\1\2", 20, struct.pack("<I", 9000)), "the deflate stream is truncated"),
        (changed(GOOD, b"PK\1\2", 20, struct.pack("<I", 1 << 30)), "beyond the end of the archive"),
        (changed(GOOD, b"PK\1\2", 42, struct.pack("<I", 1 << 30)), "beyond the end of the archive"),
        (changed(GOOD, b"PK\3\4", 30, b"other"), "its header does not agree"),
        (changed(GOOD, b"PK\3\4", 8, b"\0"), "its header does not agree"),
        (changed(GOOD, b"PK\1\2", 0, b"XX"), "the archive's directory is damaged"),
        (changed(GOOD, b"PK\5\6", 10, b"\2"), "ends before its 2 entries do"),
        (changed(GOOD, b"PK\5\6", 4, b"\1"), "one part of a split zip archive"),
        (changed(GOOD, b"PK\5\6", 12, struct.pack("<I", 1 << 30)), "a directory of 1073741824 bytes"),
        (changed(GOOD, b"PK\3\4", 5000, b"\x55\xaa\x55"), "damaged"),
    ],
)
def test_damage(tmp_path: Path, blob: bytes, message: str) -> None:
    with pytest.raises(DiskImageError, match=rf"disk\.img\.zip.*{message}"):
        content_of(tmp_path, blob)


def test_bytes_after_the_deflate_stream(tmp_path: Path) -> None:
    size = struct.unpack_from("<I", GOOD, GOOD.index(b"PK\1\2") + 20)[0]
    start = 30 + len("disk.img")
    blob = GOOD[: start + size] + bytes(4) + GOOD[start + size :]
    blob = changed(blob, b"PK\1\2", 20, struct.pack("<I", size + 4))
    blob = changed(blob, b"PK\5\6", 16, struct.pack("<I", blob.index(b"PK\1\2")))
    with pytest.raises(DiskImageError, match="ends before its compressed size"):
        content_of(tmp_path, blob)


def test_a_bomb_is_stopped_where_its_size_ends(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(changed(archive(("disk.img", bytes(64 << 20))), b"PK\1\2", 24, struct.pack("<I", 3 << 20)))
    given: list[int] = []
    with FileDevice(path) as device, pytest.raises(DiskImageError, match="more than the 3145728 bytes"):
        given.extend(len(content) for content, _ in member_content(device, find_image(device)))
    assert sum(given) <= 3 << 20


def test_names_are_shown_harmlessly(tmp_path: Path) -> None:
    with pytest.raises(DiskImageError) as caught:
        content_of(tmp_path, archive(("\x1b[31mred.img", b"x"), ("y" * 5000 + ".img", b"y")))
    assert "\\x1b[31mred.img" in str(caught.value)
    assert len(str(caught.value)) < 1000


@given(edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_damage_never_passes(tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]]) -> None:
    blob = bytearray(GOOD)
    for place, value in edits:
        blob[place] = value
    if blob[:2] != b"PK":
        return
    try:
        found = content_of(tmp_path_factory.getbasetemp(), bytes(blob))
    except DiskImageError:
        return
    assert found in (CONTENT, bytes(blob))


@pytest.mark.needs("unzip")
def test_sizes_of_64_bits(tmp_path: Path) -> None:
    """More than 4 GiB of content, nearly all of it a hole; both ways, and as Info-ZIP lists it."""
    source = tmp_path / "disk.img"
    with source.open("wb") as file:
        file.truncate((4 << 30) + 12345)
        file.write(b"start")
        file.seek(4 << 30)
        file.write(b"end")
    with (tmp_path / "ours.zip").open("wb") as target, source.open("rb") as image:
        write_image(image.fileno(), source.stat().st_size, target.fileno(), Encoding(ImageFormat.ZIP, "disk.img"))
    with zipfile.ZipFile(tmp_path / "ours.zip") as made:
        assert made.infolist()[0].file_size == source.stat().st_size
    listed = subprocess.run(
        [find_tool("unzip"), "-Z", tmp_path / "ours.zip"], check=True, capture_output=True, text=True
    )
    assert "4294979641" in listed.stdout
    with opened_image(tmp_path / "ours.zip") as opened:
        assert opened.device.size == source.stat().st_size
        assert opened.device.read(4 << 30, 5) == b"end\0\0"


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("timestamp", [0, 1_700_000_001, 1 << 40])
@pytest.mark.needs("unzip")
def test_records_of_both_widths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: bool, timestamp: int) -> None:
    if wide:
        monkeypatch.setattr(zip_writing, "MOST_NARROW_BYTES", 1000)
    (tmp_path / "disk").write_bytes(CONTENT)
    with (tmp_path / "out.zip").open("wb") as target, (tmp_path / "disk").open("rb") as image:
        write_image(
            image.fileno(), len(CONTENT), target.fileno(), Encoding(ImageFormat.ZIP, "disk.img", timestamp=timestamp)
        )
    subprocess.run([find_tool("unzip"), "-tq", tmp_path / "out.zip"], check=True, capture_output=True)
    with zipfile.ZipFile(tmp_path / "out.zip") as made:
        assert made.read("disk.img") == CONTENT
        assert (made.infolist()[0].extract_version == 45) is wide
    assert content_of(tmp_path, (tmp_path / "out.zip").read_bytes()) == CONTENT
