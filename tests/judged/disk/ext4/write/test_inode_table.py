"""Inodes taken and written in bulk, held against libext2fs doing it one at a time."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.ext4_images import make_ext4

from drypoint.disk import FileDevice
from drypoint.disk.ext4.write.bindings import library
from drypoint.disk.ext4.write.filesystem import Ext4Filesystem
from drypoint.disk.ext4.write.inode import S_IFREG, NewInode, encode_inode
from drypoint.disk.ext4.write.xattr import set_xattrs
from drypoint.errors import FilesystemError, NoSpaceError

pytestmark = pytest.mark.needs("mkfs.ext4", "dumpe2fs")

NOW = 1_700_000_000
MIB = 1 << 20
# Several groups of few inodes each, more than one block of them.
LAYOUT = ("-T", "default", "-b", "1024", "-g", "1024", "-N", "256")


def address_of(filesystem: Ext4Filesystem) -> ctypes.c_void_p:
    return ctypes.c_void_p(int(library().ffi.cast("uintptr_t", filesystem.handle)))


class OneAtATime:
    """Numbers of inodes as the library gives them out."""

    def __init__(self, filesystem: Ext4Filesystem) -> None:
        self._short = ctypes.PyDLL("libext2fs.so.2")
        self._fs = address_of(filesystem)
        self._words = filesystem.handle.super

    @property
    def free(self) -> int:
        return int(self._words[0x10 // 4])

    def allocate(self, near: int, *, directory: bool) -> int | None:
        found = ctypes.c_uint32()
        if self._short.ext2fs_new_inode(self._fs, near, 0, None, ctypes.byref(found)):
            return None
        self._short.ext2fs_inode_alloc_stats2(self._fs, found.value, 1, int(directory))
        return found.value

    def release(self, ino: int, *, directory: bool) -> None:
        self._short.ext2fs_inode_alloc_stats2(self._fs, ino, -1, int(directory))


def groups(image: Path) -> str:
    """Counts, flags and free inodes of every group, as dumpe2fs tells them."""
    told = subprocess.run(["dumpe2fs", image], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in told.splitlines() if "Lifetime" not in line and "Checksum:  " not in line)


@pytest.mark.parametrize("features", ["metadata_csum", "^metadata_csum,uninit_bg", "^metadata_csum,^uninit_bg"])
@pytest.mark.parametrize("seed", range(4))
def test_numbers_and_counts_are_those_of_the_library(tmp_path: Path, features: str, seed: int) -> None:
    ours = make_ext4(tmp_path / "ours", 8 * MIB, *LAYOUT, "-O", features)
    theirs = Path(shutil.copy(ours, tmp_path / "theirs"))
    source = random.Random(seed)
    with FileDevice(ours, writable=True) as first, FileDevice(theirs, writable=True) as second:
        bulk, single = Ext4Filesystem(first, now=NOW), Ext4Filesystem(second, now=NOW)
        reference = OneAtATime(single)
        taken: dict[int, bool] = {}
        near = 11
        for _ in range(400):
            if taken and source.random() < 0.2:
                ino = source.choice(sorted(taken))
                directory = taken.pop(ino)
                bulk.inode_numbers.release(ino, directory=directory)
                reference.release(ino, directory=directory)
                continue
            directory = source.random() < 0.1
            if source.random() < 0.05:
                near = source.choice(sorted(taken) or [near])
            expected = reference.allocate(near, directory=directory)
            if expected is None:
                with pytest.raises(NoSpaceError, match="no free inode"):
                    bulk.inode_numbers.take(near, directory=directory)
                continue
            near = bulk.inode_numbers.take(near, directory=directory)
            assert near == expected
            assert bulk.free_inodes == reference.free
            taken[near] = directory
        assert len(taken) > 100
        bulk.close()
        single.close()
    assert groups(ours) == groups(theirs)


def new_file(filesystem: Ext4Filesystem, mtime: int) -> bytes:
    return encode_inode(filesystem.shape, NewInode(S_IFREG | 0o644, 1, 2, mtime), NOW)


@pytest.fixture
def filesystem(tmp_path: Path) -> Any:
    image = make_ext4(tmp_path / "image", 8 * MIB, "-T", "default", "-b", "4096", "-N", "128")
    with FileDevice(image, writable=True) as device:
        opened = Ext4Filesystem(device, now=NOW)
        yield opened
        opened.abort()


def test_what_was_written_is_read_at_once(filesystem: Ext4Filesystem) -> None:
    # From two blocks of the table, back and forth.
    written = {ino: new_file(filesystem, ino) for ino in (12, 13, 40, 14, 41, 15)}
    for ino, raw in written.items():
        filesystem.write_inode(ino, raw)
    for ino, raw in written.items():
        # All but the checksum, which the library has just checked.
        assert filesystem.read_inode(ino)[:100] == raw[:100]


def test_what_the_library_writes_meanwhile_stays(filesystem: Ext4Filesystem) -> None:
    for ino in (12, 13):
        filesystem.write_inode(ino, new_file(filesystem, ino))
    set_xattrs(filesystem, 12, ((b"user.name", b"value"),), path=b"file")
    filesystem.write_inode(13, new_file(filesystem, 99))
    filesystem.write_inode(14, new_file(filesystem, 14))
    assert b"value" in filesystem.read_inode(12)
    assert filesystem.read_inode(13)[:100] == new_file(filesystem, 99)[:100]


@pytest.mark.parametrize(
    "options",
    [
        ("-I", "256"),
        ("-I", "128"),
        ("-I", "1024"),
        ("-O", "metadata_csum_seed", "-U", "6a0b2a5e-6a53-4f0b-8e0b-2f7f7d2a9c11"),
        ("-O", "^metadata_csum"),
    ],
)
def test_checksums_are_those_of_the_library(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = make_ext4(tmp_path / "image", 8 * MIB, "-T", "default", "-b", "4096", "-N", "128", *options)
    source = random.Random(str(options))
    with FileDevice(image, writable=True) as device:
        filesystem = Ext4Filesystem(device, now=NOW)
        short, address = ctypes.PyDLL("libext2fs.so.2"), address_of(filesystem)
        size = filesystem.shape.size
        for extra in (0, 2, 4, 28, 32, 256, 260):
            raw = bytearray(source.randbytes(size))
            raw[128:130] = extra.to_bytes(2, "little")[: size - 128]
            filesystem.write_inode(12, bytes(raw))
            written = filesystem.read_inode(12)
            expected = (ctypes.c_char * size).from_buffer(raw)
            assert not short.ext2fs_inode_csum_set(address, 12, expected)
            assert written == raw, extra
        filesystem.abort()


@pytest.mark.parametrize("ino", [0, 1 << 31])
def test_inodes_that_there_are_none_of(filesystem: Ext4Filesystem, ino: int) -> None:
    with pytest.raises(FilesystemError, match=f"cannot write inode {ino} of"):
        filesystem.write_inode(ino, new_file(filesystem, 1))


def test_a_table_that_lies_outside(tmp_path: Path) -> None:
    image = make_ext4(
        tmp_path / "image", 8 * MIB, "-T", "default", "-b", "4096", "-N", "128", "-O", "^metadata_csum,^uninit_bg"
    )
    with FileDevice(image, writable=True) as device:
        # bg_inode_table of the first group: the descriptors are in the block after the superblock's.
        device.write(4096 + 8, (1 << 30).to_bytes(4, "little"))
        filesystem = Ext4Filesystem(device, now=NOW)
        with pytest.raises(FilesystemError, match="cannot write inode 12 of"):
            filesystem.write_inode(12, new_file(filesystem, 1))
        filesystem.abort()
