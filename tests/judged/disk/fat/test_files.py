"""Files in FAT file systems, made by mkfs.vfat at an offset in a disk image, read and written; mtools and fsck.vfat judge."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.devices import OpaqueDevice

from drypoint.disk import FileDevice, Window
from drypoint.disk.fat.allocation_table import free_clusters, read_fat_table
from drypoint.disk.fat.files import (
    FatEntry,
    list_fat_directory,
    read_fat_file,
    write_fat_file,
    write_fat_files,
)
from drypoint.disk.filesystem_info import FilesystemKind
from drypoint.disk.probe import probe
from drypoint.errors import FilesystemError, NoSpaceError, ToolError, UsageError
from drypoint.samples.tools import run_tool
from drypoint.verification.filesystem import judge_fat

pytestmark = pytest.mark.needs("mkfs.vfat", "mcopy")

OFFSET = 1 << 20
SIZES = {"12": 1 << 20, "16": 4 << 20, "32": 36 << 20}
TIME = 1_600_000_000
LARGE = bytes(range(251)) * 400
SETTINGS = {"MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "TZ": "UTC0", "SOURCE_DATE_EPOCH": "1500000000"}


@pytest.fixture(params=["12", "16", "32"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_disk(tmp_path, request.param)


@pytest.fixture
def disk16(tmp_path: Path) -> Path:
    return make_disk(tmp_path, "16")


def make_disk(directory: Path, kind: str) -> Path:
    path = directory / "disk.img"
    path.write_bytes(b"before" + bytes(OFFSET - 6) + file_system(kind) + b"behind" * 100)
    return path


@cache
def file_system(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        partition, content, large = (Path(name) / part for part in ("fat.img", "content", "large"))
        with partition.open("wb") as file:
            file.truncate(SIZES[kind])
        entries = ["-r", "32", "-s", "1"] if kind == "16" else []
        run_tool("mkfs.vfat", "--invariant", "-F", kind, *entries, "-n", "resin-boot", partition)
        content.write_bytes(b'{"slug": "x"}')
        large.write_bytes(LARGE)
        mtools("mmd", partition, "::/splash")
        mtools("mcopy", partition, content, "::/device-type.json")
        mtools("mcopy", partition, content, "::/splash/balena-logo.png")
        mtools("mcopy", partition, large, "::/kernel image with a long name.bin")
        return partition.read_bytes()


def mtools(program: str, image: Path | str, *arguments: str | Path) -> str:
    return run_tool(program, "-i", image, *arguments, extra_environment=SETTINGS)


@contextmanager
def opened(disk: Path, *, writable: bool = True) -> Iterator[Window]:
    with FileDevice(disk, writable=writable) as device:
        yield Window(device, OFFSET, device.size - OFFSET - 600)


def everything(disk: Path) -> dict[str, bytes]:
    """All files by path, as mtools copies them out."""
    with tempfile.TemporaryDirectory() as name:
        mtools("mcopy", f"{disk}@@{OFFSET}", "-s", "-n", "::", name)
        return {str(path.relative_to(name)): path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}


def check(disk: Path, directory: Path) -> None:
    """fsck.vfat finds nothing, and what lies around the file system is as before."""
    data = disk.read_bytes()
    assert data[:6] == b"before"
    assert data.endswith(b"behind" * 100)
    copy = directory / "checked"
    copy.write_bytes(data[OFFSET:-600])
    run_tool("fsck.vfat", "-n", copy)


def test_files_are_read_where_they_are(disk: Path) -> None:
    with opened(disk) as window:
        assert read_fat_file(window, "device-type.json", 100) == b'{"slug": "x"}'
        assert read_fat_file(window, "splash/balena-logo.png", 100) == b'{"slug": "x"}'
        assert read_fat_file(window, "Device-Type.JSON", 100) == b'{"slug": "x"}'
        assert read_fat_file(window, "config.json", 100) is None
        assert read_fat_file(window, "nowhere/config.json", 100) is None


def test_a_file_over_the_limit_is_refused(disk: Path) -> None:
    with opened(disk) as window, pytest.raises(FilesystemError, match="more than 12 bytes"):
        read_fat_file(window, "device-type.json", 12)


def test_what_is_no_fat_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(2 << 20))
    with FileDevice(path, writable=True) as device:
        window = Window(device, OFFSET, OFFSET)
        with pytest.raises(FilesystemError, match="mcopy says"):
            read_fat_file(window, "device-type.json", 100)
        with pytest.raises(FilesystemError, match="mdir says"):
            list_fat_directory(window)
        with pytest.raises(FilesystemError, match="no known file system, expected FAT"):
            write_fat_file(window, "x", b"", timestamp=TIME)


def test_directories_are_listed(disk: Path) -> None:
    with opened(disk) as window:
        assert list_fat_directory(window) == (
            FatEntry("splash", is_directory=True),
            FatEntry("device-type.json", is_directory=False),
            FatEntry("kernel image with a long name.bin", is_directory=False),
        )
        assert list_fat_directory(window, "SPLASH") == (FatEntry("balena-logo.png", is_directory=False),)
        assert list_fat_directory(window, "nowhere") is None
        assert list_fat_directory(window, "device-type.json") is None


def test_a_file_is_put_in_and_nothing_else_changes(disk: Path, tmp_path: Path) -> None:
    before = everything(disk)
    with opened(disk) as window:
        write_fat_file(window, "config.json", b"{}", timestamp=TIME)
    assert everything(disk) == {**before, "config.json": b"{}"}
    check(disk, tmp_path)
    assert "2020-09-13  12:26" in mtools("mdir", f"{disk}@@{OFFSET}", "::/config.json")


@pytest.mark.parametrize(
    "name", ["plain", "name with spaces.conf", "größe.nmconnection", "日本の名前", "UPPER.TXT", ".hidden", "-x"]
)
def test_names_are_kept(disk16: Path, tmp_path: Path, name: str) -> None:
    with opened(disk16) as window:
        write_fat_file(window, f"system-connections/nested/{name}", b"content", timestamp=TIME)
        assert list_fat_directory(window, "system-connections/nested") == (FatEntry(name, is_directory=False),)
        assert read_fat_file(window, f"system-connections/nested/{name}", 7) == b"content"
    check(disk16, tmp_path)


def test_a_file_that_is_there_is_replaced_under_its_own_spelling(disk: Path, tmp_path: Path) -> None:
    before = everything(disk)
    with opened(disk) as window:
        write_fat_file(window, "SPLASH/BALENA-LOGO.png", b"new" * 10_000, timestamp=TIME)
        write_fat_file(window, "Device-Type.json", b"", timestamp=TIME)
    assert everything(disk) == {**before, "splash/balena-logo.png": b"new" * 10_000, "device-type.json": b""}
    check(disk, tmp_path)


def test_a_file_that_has_the_content_already_is_left_alone(disk: Path) -> None:
    before = disk.read_bytes()
    with opened(disk) as window:
        write_fat_file(window, "DEVICE-type.json", b'{"slug": "x"}', timestamp=TIME)
    assert disk.read_bytes() == before


def test_the_clock_leaves_no_trace(tmp_path: Path) -> None:
    images: list[bytes] = []
    for zone, clock in (("UTC0", "1"), ("Pacific/Auckland", "1700000000")):
        disk = make_disk(tmp_path, "32")
        with mock.patch.dict(os.environ, {"TZ": zone, "SOURCE_DATE_EPOCH": clock}), opened(disk) as window:
            write_fat_files(window, {"config.json": b"{}", "a/b/c": b"c", "device-type.json": b"x"}, timestamp=TIME)
        images.append(disk.read_bytes())
    assert images[0] == images[1]


@pytest.mark.parametrize(("timestamp", "shown"), [(0, "1980-01-01"), (1 << 40, "2107-12-31")])
def test_times_that_fat_cannot_note_are_the_nearest(disk16: Path, timestamp: int, shown: str) -> None:
    with opened(disk16) as window:
        write_fat_file(window, "config.json", b"{}", timestamp=timestamp)
    assert shown in mtools("mdir", f"{disk16}@@{OFFSET}", "::/config.json")


def test_a_full_file_system_is_told_with_figures_and_stays_as_it_was(disk: Path) -> None:
    before = disk.read_bytes()
    with opened(disk) as window:
        table = read_fat_table(window)
        free = free_clusters(window, table) * table.cluster_size
        wanted = {"config.json": b"{}", "large": b"x" * (free + 1)}
        with pytest.raises(
            NoSpaceError, match=rf"{free} bytes free, and config\.json, large need {free + 2 * table.cluster_size};"
        ):
            write_fat_files(window, wanted, timestamp=TIME)
    assert disk.read_bytes() == before


def test_what_is_replaced_makes_room(disk: Path, tmp_path: Path) -> None:
    with opened(disk) as window:
        table = read_fat_table(window)
        free = free_clusters(window, table) * table.cluster_size
        write_fat_file(window, "device-type.json", b"x" * (free + table.cluster_size), timestamp=TIME)
        assert free_clusters(window, table) == 0
        with pytest.raises(NoSpaceError, match="0 bytes free"):
            write_fat_file(window, "config.json", b"{}", timestamp=TIME)
    check(disk, tmp_path)


def test_a_root_directory_without_entries_left_is_told(disk16: Path) -> None:
    before = disk16.read_bytes()
    files = {f"a rather long name that takes five entries {number}": b"" for number in range(20)}
    with opened(disk16) as window, pytest.raises(NoSpaceError, match="No directory slots"):
        write_fat_files(window, files, timestamp=TIME)
    assert disk16.read_bytes() == before


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty"),
        ("a//b", "empty"),
        ("../a", r"'\.\.'"),
        ("a*", "control character"),
        ("a[b]", "control character"),
        ("a\nb", "control character"),
        ("a.", "ends with"),
        ("a /b", "ends with"),
        ("\U0001f600", "65,536"),
        ("\udcff", "65,536"),
        ("x" * 256, "255"),
        ("con", "another meaning"),
        ("config~1.jso", "another meaning"),
    ],
)
def test_names_that_cannot_be_are_refused(disk16: Path, path: str, why: str) -> None:
    with opened(disk16) as window, pytest.raises(UsageError, match=why):
        write_fat_file(window, path, b"", timestamp=TIME)


def test_files_and_directories_do_not_replace_each_other(disk16: Path) -> None:
    before = disk16.read_bytes()
    with opened(disk16) as window:
        with pytest.raises(FilesystemError, match="splash is a directory"):
            write_fat_file(window, "Splash", b"", timestamp=TIME)
        with pytest.raises(FilesystemError, match=r"device-type\.json is a file, but device-type\.json/x needs"):
            write_fat_file(window, "device-type.json/x", b"", timestamp=TIME)
        with pytest.raises(UsageError, match="same path"):
            write_fat_files(window, {"a": b"", "A": b""}, timestamp=TIME)
    assert disk16.read_bytes() == before


@pytest.mark.parametrize(
    ("offset", "byte", "why"),
    [
        (0, None, "the copies"),
        (21, 0xF0, "kind of medium"),
        (22, 1, "too small for"),
        (20, 0xFF, "by its boot sector"),
    ],
)
def test_a_damaged_table_is_refused(disk16: Path, offset: int, byte: int | None, why: str) -> None:
    with opened(disk16) as window:
        if byte is None:
            table = read_fat_table(window)
            window.write(table.offset + 40, b"\xaa\xaa")
        elif offset == 20:
            window.write(19, b"\xff\xff")
        else:
            window.write(offset, bytes([byte]) + (b"\0" if offset == 22 else b""))
        before = disk16.read_bytes()
        with pytest.raises(FilesystemError, match=why):
            write_fat_file(window, "config.json", b"{}", timestamp=TIME)
    assert disk16.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("shared", "belongs to two files, or twice to one"),
        ("circle", "belongs to two files, or twice to one"),
        ("nowhere", "leads to number"),
        ("short", "a file of 100400 bytes has only 1 clusters"),
    ],
)
def test_files_that_do_not_lie_apart_are_refused(disk: Path, tmp_path: Path, damage: str, why: str) -> None:
    """fsck.vfat is asked whether the damage is one."""
    with opened(disk) as window:
        table = read_fat_table(window)
        data = bytearray(window.read(0, window.size))
    size, large = table.entry_bits, data.find(b"KERNEL~1BIN")
    first = int.from_bytes(data[large + 26 : large + 28], "little")
    link = {"circle": first, "nowhere": table.clusters + 50, "short": (1 << min(size, 28)) - 1, "shared": 0}[damage]
    if damage == "shared":
        other = data.find(b"DEVICE~1JSO")
        data[other + 26 : other + 28] = data[large + 26 : large + 28]
    else:
        for copy in (table.offset, table.offset + table.size):
            at, shift = copy + first * size // 8, first * size % 8
            entry = int.from_bytes(data[at : at + 4], "little") & ~(((1 << size) - 1) << shift) | link << shift
            data[at : at + 4] = entry.to_bytes(4, "little")
    with opened(disk) as window:
        window.write(0, data)
    before = disk.read_bytes()
    with opened(disk) as window, pytest.raises(FilesystemError, match=f"is damaged: .*{why}"):
        write_fat_file(window, "config.json", b"{}", timestamp=TIME)
    assert disk.read_bytes() == before
    with pytest.raises(ToolError, match=r"fsck\.vfat"):
        check(disk, tmp_path)


def test_a_short_alias_of_another_file_is_no_way_to_it(disk16: Path) -> None:
    """The alias that a hostile image gives to a file is the name that is to be written."""
    with opened(disk16) as window:
        data = bytearray(window.read(0, 1 << 20))
        at = data.find(b"DEVICE~1JSO")
        checksum = 0
        for letter in b"VICTIM  TXT":
            checksum = ((checksum >> 1) + ((checksum & 1) << 7) + letter) & 0xFF
        data[at : at + 11] = b"VICTIM  TXT"
        for entry in (at - 32, at - 64):
            data[entry + 13] = checksum
        window.write(0, data)
        before = disk16.read_bytes()
        with pytest.raises(FilesystemError, match="changes other names"):
            write_fat_file(window, "victim.txt", b"{}", timestamp=TIME)
    assert disk16.read_bytes() == before


def test_a_device_that_lies_scattered_is_written_too(disk: Path, tmp_path: Path) -> None:
    before = everything(disk)
    with opened(disk) as window:
        device = OpaqueDevice(window)
        write_fat_file(device, "splash/new.png", b"png", timestamp=TIME)
        assert read_fat_file(device, "splash/new.png", 3) == b"png"
        assert [entry.name for entry in list_fat_directory(device, "splash") or ()] == ["balena-logo.png", "new.png"]
    assert everything(disk) == {**before, "splash/new.png": b"png"}
    assert device.written < 64 << 10, "only what differs is brought back"
    check(disk, tmp_path)


def test_a_program_that_does_not_end_is_ended(disk16: Path, tmp_path: Path) -> None:
    for name in ("mcopy", "mdir"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\nexec sleep 60\n")
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch("drypoint.disk.fat.mtools.TIMEOUT", 0.2),
        opened(disk16) as window,
    ):
        with pytest.raises(ToolError, match=r"mcopy did not end within 0\.2 seconds"):
            read_fat_file(window, "config.json", 10)
        with pytest.raises(ToolError, match="mdir did not end"):
            write_fat_file(window, "config.json", b"", timestamp=TIME)


NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N"), max_codepoint=0x52F), min_size=9, max_size=30)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["12", "16", "32"]),
    files=st.dictionaries(
        st.builds("/".join, st.lists(NAMES, min_size=1, max_size=3)), st.binary(max_size=5000), min_size=1, max_size=3
    ),
)
def test_whatever_is_put_in_the_rest_stays(kind: str, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        disk = make_disk(directory, kind)
        before = everything(disk)
        try:
            with opened(disk) as window:
                write_fat_files(window, files, timestamp=TIME)
        except (UsageError, FilesystemError):
            # Two names that are one on FAT, or one that is to be both a file and a directory.
            assert everything(disk) == before
            return
        assert everything(disk) == {**before, **files}
        check(disk, directory)


def test_the_checker_of_these_tests_sees_damage(disk16: Path, tmp_path: Path) -> None:
    with opened(disk16) as window:
        table = read_fat_table(window)
        window.write(table.offset + 40, b"\xaa\xaa")
    with pytest.raises(ToolError, match=r"fsck\.vfat"):
        check(disk16, tmp_path)


VARIANTS = [
    *((bits, ("-f", copies)) for bits in ("12", "16", "32") for copies in ("1", "3", "4")),
    *((bits, ("-S", sector)) for bits in ("12", "16", "32") for sector in ("1024", "2048", "4096")),
    *(("12", ("-s", clusters)) for clusters in ("1", "2", "4", "8", "16", "32", "64", "128")),
    *(("16", ("-s", clusters)) for clusters in ("2", "4", "8", "16")),
    *(("32", ("-s", clusters)) for clusters in ("1", "2", "4", "64")),
    ("16", ("-f", "4", "-S", "4096", "-s", "2")),
]


@pytest.mark.parametrize(("bits", "options"), VARIANTS, ids=str)
def test_every_geometry_that_mkfs_makes(tmp_path: Path, bits: str, options: tuple[str, ...]) -> None:
    clusters = {"12": 1000, "16": 6000, "32": 70000}[bits]
    sizes = dict(zip(options[::2], options[1::2], strict=True))
    per_cluster = int(sizes.get("-s", "1"))
    size = clusters * per_cluster * int(sizes.get("-S", "512"))
    path = tmp_path / "fat.img"
    with path.open("wb") as file:
        file.truncate(size + (1 << 20))
    run_tool("mkfs.vfat", "-F", bits, "-n", "resin-boot", "-s", str(per_cluster), *options, path)
    with FileDevice(path, writable=True) as device:
        table = read_fat_table(device)
        assert table.kind.value == f"FAT{bits}"
        assert table.copies == int(sizes.get("-f", "2"))
        write_fat_files(device, {"config.json": b"{}", "splash/logo.png": LARGE}, timestamp=TIME)
        assert read_fat_file(device, "splash/logo.png", 1 << 20) == LARGE
        tables = [device.read(table.offset + number * table.size, table.size) for number in range(table.copies)]
        assert tables == [tables[0]] * table.copies
        assert judge_fat(device).findings == ()
        if table.copies <= 2:
            run_tool("fsck.vfat", "-n", path)
        else:
            device.write(table.offset + (table.copies - 1) * table.size + 40, b"\x55")
            assert [finding.code for finding in judge_fat(device).findings] == ["damaged-fat"]
            with pytest.raises(FilesystemError, match="copies of its allocation table differ"):
                write_fat_files(device, {"config.json": b"{ }"}, timestamp=TIME)
    assert mtools("mtype", path, "::/config.json") == "{}"


@pytest.mark.parametrize("size", [400 << 10, 20 << 20])
def test_the_atari_variant_is_refused_by_name(tmp_path: Path, size: int) -> None:
    path = tmp_path / "fat.img"
    with path.open("wb") as file:
        file.truncate(size)
    run_tool("mkfs.vfat", "-A", "-n", "RESIN-BOOT", path)
    before = path.read_bytes()
    with FileDevice(path, writable=True) as device:
        info = probe(device)
        assert info is not None
        assert (info.kind, info.label, info.kind.is_fat) == (FilesystemKind.FAT_ATARI, "RESIN-BOOT", False)
        with pytest.raises(FilesystemError, match="holds FAT in its Atari variant, expected FAT"):
            write_fat_files(device, {"config.json": b"{}"}, timestamp=TIME)
    assert path.read_bytes() == before
