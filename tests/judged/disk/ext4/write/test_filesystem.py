"""Which file systems the writer takes, and what it says of the others."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.ext4_images import judge_ext4, make_ext4

from drypoint.disk import FileDevice, Window
from drypoint.disk.ext4.write import _libext2fs, bindings
from drypoint.disk.ext4.write.filesystem import Ext4Filesystem
from drypoint.errors import DiskImageError, FilesystemError, ToolError

pytestmark = pytest.mark.needs("mkfs.ext4", "e2fsck")

OFFSET = 1 << 20
SIZE = 16 << 20
NOW = 1_700_000_000


def open_and_close(image: Path, *, size: int = SIZE, finish: Callable[[Ext4Filesystem], None]) -> None:
    with FileDevice(image, writable=True) as device:
        finish(Ext4Filesystem(Window(device, OFFSET, size), now=NOW))


def patch(image: Path, offset: int, data: bytes) -> None:
    """Change the superblock, whose checksum a file system without metadata_csum does not have."""
    with open(image, "r+b") as file:
        file.seek(OFFSET + 1024 + offset)
        file.write(data)


@pytest.mark.parametrize("finish", [Ext4Filesystem.close, Ext4Filesystem.abort])
def test_opening_and_closing_changes_nothing(tmp_path: Path, finish: Callable[[Ext4Filesystem], None]) -> None:
    image = make_ext4(tmp_path / "image", SIZE, offset=OFFSET)
    before = image.read_bytes()
    open_and_close(image, finish=finish)
    assert image.read_bytes() == before
    judge_ext4(image, offset=OFFSET)


def test_facts_for_planning(tmp_path: Path) -> None:
    image = make_ext4(tmp_path / "image", SIZE, "-b", "4096", "-N", "1024", offset=OFFSET)
    with FileDevice(image, writable=True) as device:
        filesystem = Ext4Filesystem(Window(device, OFFSET, SIZE), now=NOW)
        try:
            assert filesystem.block_size == 4096
            assert filesystem.blocks_count == SIZE // 4096
            assert filesystem.inodes_count == 1024
            assert filesystem.free_inodes == 1024 - 11
            assert 0 < filesystem.free_blocks < SIZE // 4096
        finally:
            filesystem.abort()


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0x38, b"XY", "holds no ext4 file system: its superblock's magic number is 0x5958, not 0xef53"),
        (0x3A, struct.pack("<H", 3), r"is marked as having errors; run e2fsck -f '.*image\?offset=1048576'"),
        (0x3A, struct.pack("<H", 0), "was not cleanly unmounted"),
        (0x60, struct.pack("<I", 0x46), "has a journal that was not replayed"),
        (0xE8, struct.pack("<I", 12), "has deleted files that are not yet freed"),
        (0x60, struct.pack("<I", 0x42 | 0x10000 | 0x20000), "cannot write: encrypt, casefold"),
        (0x60, struct.pack("<I", 0x42 | 0x8000 | 0x400), "cannot write: ea_inode, inline_data"),
        (0x64, struct.pack("<I", 0x03 | 0x200 | 0x100 | 0x80000000), "cannot write: quota, bigalloc, ro_compat 0x80000000"),
        (0x5C, struct.pack("<I", 0x38 | 0x40), "cannot write: lazy_bg"),
        (0x18, struct.pack("<I", 6), "has blocks of 65536 bytes; 1024 to 32768 are supported"),
        (0x58, struct.pack("<H", 64), "has inodes of 64 bytes"),
        (0x04, struct.pack("<I", 0x10000), "claims 65536 blocks of 4096 bytes, but the partition has 16777216 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_to_is_refused_by_name(tmp_path: Path, offset: int, data: bytes, message: str) -> None:
    options = ["-b", "4096", "-O", "^metadata_csum,^64bit,^uninit_bg,^flex_bg"]
    image = make_ext4(tmp_path / "image", SIZE, *options, offset=OFFSET)
    patch(image, offset, data)
    with pytest.raises(FilesystemError, match=message):
        open_and_close(image, finish=Ext4Filesystem.abort)


@pytest.mark.parametrize(
    "feature", ["bigalloc,extents", "inline_data", "quota", "encrypt", "casefold", "mmp", "ea_inode"]
)
def test_features_of_mkfs_that_are_refused(tmp_path: Path, feature: str) -> None:
    image = make_ext4(tmp_path / "image", SIZE, "-O", feature, offset=OFFSET)
    with pytest.raises(FilesystemError, match=f"features that drypoint cannot write: .*{feature.partition(',')[0]}"):
        open_and_close(image, finish=Ext4Filesystem.abort)


def test_a_damaged_checksum_is_refused(tmp_path: Path) -> None:
    image = make_ext4(tmp_path / "image", SIZE, "-O", "metadata_csum", offset=OFFSET)
    patch(image, 0x78, b"label")
    with pytest.raises(FilesystemError, match=r"cannot open the file system in .*image.*: .*checksum"):
        open_and_close(image, finish=Ext4Filesystem.abort)


def test_a_partition_too_small_for_any_file_system(tmp_path: Path) -> None:
    image = make_ext4(tmp_path / "image", SIZE, offset=OFFSET)
    with pytest.raises(FilesystemError, match="has 1024 bytes, too few for an ext4 file system"):
        open_and_close(image, size=1024, finish=Ext4Filesystem.abort)


def test_an_image_that_vanished(tmp_path: Path) -> None:
    image = make_ext4(tmp_path / "image", SIZE, offset=OFFSET)
    with FileDevice(image, writable=True) as device:
        image.unlink()
        with pytest.raises(DiskImageError, match=r"cannot open .*image for writing: No such file or directory"):
            Ext4Filesystem(Window(device, OFFSET, SIZE), now=NOW)


@pytest.mark.parametrize("now", [0, -1, 1 << 32])
def test_now_is_a_time(tmp_path: Path, now: int) -> None:
    image = make_ext4(tmp_path / "image", SIZE, offset=OFFSET)
    with FileDevice(image, writable=True) as device, pytest.raises(ValueError, match="now is a number of seconds"):
        Ext4Filesystem(Window(device, OFFSET, SIZE), now=now)


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ffi:
        def dlopen(self, name: str) -> object:
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(_libext2fs, "ffi", Ffi())
    bindings.library.cache_clear()
    try:
        with pytest.raises(ToolError, match=r"libext2fs\.so\.2 cannot be loaded .* in the package libext2fs2"):
            bindings.library()
    finally:
        bindings.library.cache_clear()
