"""The ext4 reader against the kernel: what it reads is what a mount shows, on every shape of file system it takes."""

# Names here are bytes, which Path does not take.
# ruff: noqa: PTH101, PTH102, PTH108, PTH115, PTH208, PTH211

from __future__ import annotations

import ctypes
import os
import random
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from drypoint.disk.device import FileDevice
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.errors import FilesystemError
from drypoint.fstree import (
    BlockDevice,
    CharDevice,
    Directory,
    Entry,
    Fifo,
    Metadata,
    Regular,
    Socket,
    Stat,
    Symlink,
    join,
)
from drypoint.samples.tools import run_tool
from tests.support.mounts import mounted

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]

SHAPES = {
    "ext4": ("mkfs.ext4", "-T", "default", "-b", "4096"),
    "ext4 without checksums": ("mkfs.ext4", "-O", "^metadata_csum,uninit_bg,^64bit", "-b", "4096"),
    "ext4 with 1 KiB blocks": ("mkfs.ext4", "-b", "1024", "-O", "metadata_csum,64bit"),
    "ext4 with 128-byte inodes": ("mkfs.ext4", "-I", "128"),
    "ext4 with 1024-byte inodes": ("mkfs.ext4", "-I", "1024", "-b", "4096"),
    "ext4 with inline data": ("mkfs.ext4", "-O", "inline_data", "-I", "256", "-b", "4096"),
    "ext4 with values in inodes": ("mkfs.ext4", "-O", "ea_inode,metadata_csum_seed,large_dir", "-b", "4096"),
    "ext4 with meta groups": ("mkfs.ext4", "-O", "meta_bg,^resize_inode,^flex_bg", "-b", "1024", "-g", "1024"),
    "ext4 with clusters": ("mkfs.ext4", "-O", "bigalloc", "-C", "16384", "-b", "4096"),
    "ext4 with clusters of 1 KiB blocks": ("mkfs.ext4", "-O", "bigalloc", "-C", "8192", "-b", "1024"),
    "ext4 with sparse_super2 and meta groups": (
        ("mkfs.ext4", "-O", "sparse_super2,meta_bg,^resize_inode", "-b", "1024", "-g", "2048")
    ),
    "ext3": ("mkfs.ext3", "-b", "4096"),
    "ext2": ("mkfs.ext2", "-b", "1024"),
    "ext2 of revision 0": ("mkfs.ext2", "-r", "0"),
}
LONG_VALUES = {"ext4 with values in inodes"}


@pytest.mark.parametrize("shape", SHAPES)
def test_reads_what_the_kernel_shows(tmp_path: Path, shape: str) -> None:
    image = make(tmp_path, SHAPES[shape])
    with mounted(image, writable=True) as tree:
        fill(os.fsencode(tree), long_values=shape in LONG_VALUES)
    with FileDevice(image) as device, mounted(image) as tree:
        reader = Ext4Reader(device)
        expected = dict(kernel_tree(os.fsencode(tree)))
        found = dict(reader_tree(reader))
        assert found.keys() == expected.keys()
        for path, (stat_found, content) in found.items():
            assert stat_found == expected[path][0], path
            assert content == expected[path][1], path
            assert reader.lookup(path) == stat_found
        status = os.statvfs(tree)
        superblock = reader.superblock
        assert (superblock.inodes_count, superblock.free_inodes) == (status.f_files, status.f_ffree)
        assert superblock.free_blocks == status.f_bfree
        assert sum(group.free_blocks for group in reader.groups()) == superblock.free_blocks
        assert sum(group.free_inodes for group in reader.groups()) == superblock.free_inodes
        assert reader.lookup(b"no/such/thing") is None
        assert reader.lookup(b"sizes/1/below a file") is None


def test_a_mounted_file_system_needs_recovery(tmp_path: Path) -> None:
    image = make(tmp_path, SHAPES["ext4"])
    with mounted(image, writable=True) as tree:
        (tree / "file").write_bytes(b"content")
        os.sync()
        with FileDevice(image) as device:
            with pytest.raises(FilesystemError, match="journal needs recovery"):
                Ext4Reader(device)
            assert Ext4Reader(device, allow_dirty=True).needs_recovery


def test_reads_a_directory_of_100_000_names(tmp_path: Path) -> None:
    image = make(tmp_path, ("mkfs.ext4", "-b", "4096", "-N", "120000", "-O", "metadata_csum"))
    names = [b"a name of some length, numbered %06d" % number for number in range(100_000)]
    with mounted(image, writable=True) as tree:
        directory = os.open(tree, os.O_RDONLY)
        for name in names:
            os.mknod(name, dir_fd=directory)
        os.close(directory)
    with FileDevice(image) as device:
        reader = Ext4Reader(device)
        root = reader.lookup(b"")
        assert root is not None
        assert isinstance(root.entry, Directory)
        assert {child.entry.path for child in reader.children(root.entry)} == {*names, b"lost+found"}
        some = reader.lookup(names[77_777])
        assert some is not None
        assert some.entry.path == names[77_777]


def make(directory: Path, arguments: tuple[str, ...]) -> Path:
    image = directory / "image"
    with image.open("wb") as file:
        file.truncate(96 << 20)
    run_tool(arguments[0], "-q", "-F", *arguments[1:], image)
    return image


def fill(top: bytes, *, long_values: bool) -> None:
    rng = random.Random(7)
    inode_times = (0, 1, 1_600_000_000_123_456_789, 2_000_000_000_999_999_999)
    write(top, b"sizes", None)
    for size in (0, 1, 59, 60, 61, 120, 160, 200, 1024, 4095, 4096, 4097, 70_000, 2 << 20):
        write(top, b"sizes/%d" % size, rng.randbytes(size))
    os.truncate(join(top, b"sizes/4097"), 9 << 20)
    with open(join(top, b"holes"), "wb") as file:
        for position in (5 << 10, 1 << 20, 7 << 20, 11 << 20):
            file.seek(position)
            file.write(b"in between")
    # Every other block taken away leaves more extents than an inode holds.
    write(top, b"fragments", rng.randbytes(3 << 20))
    for position in range(0, 3 << 20, 8192):
        fallocate(join(top, b"fragments"), 3, position, 4096)
    write(top, b"unwritten", b"start")
    fallocate(join(top, b"unwritten"), 0, 0, 1 << 20)
    write(top, b"kinds", None)
    for length in (1, 58, 59, 60, 61, 500, 1000):
        os.symlink(b"t" * length, join(top, b"kinds/link of %d" % length))
    for major, minor in ((0, 0), (8, 1), (255, 255), (256, 7), (4095, 0xFFFFF)):
        os.mknod(join(top, b"kinds/char %d %d" % (major, minor)), stat.S_IFCHR | 0o620, os.makedev(major, minor))
        os.mknod(join(top, b"kinds/block %d %d" % (major, minor)), stat.S_IFBLK | 0o660, os.makedev(major, minor))
    os.mkfifo(join(top, b"kinds/fifo"), 0o600)
    os.mknod(join(top, b"kinds/socket"), stat.S_IFSOCK | 0o755)
    os.link(join(top, b"sizes/61"), join(top, b"kinds/another name"))
    write(top, b"names", None)
    for number in range(3000):
        write(top, b"names/number %d" % number, b"")
    for number in range(0, 3000, 3):
        os.unlink(join(top, b"names/number %d" % number))
    write(top, b"names/\xff\xfe not \n text", b"x")
    write(top, b"names/" + b"n" * 255, b"x")
    write(top, b"metadata", None)
    for number, time in enumerate(inode_times):
        path = join(top, b"metadata/time %d" % number)
        write(top, b"metadata/time %d" % number, b"x")
        os.utime(path, ns=(time, time))
        os.chown(path, 70_000 + number, 4_000_000_000)
        os.chmod(path, (0o6755, 0o1777, 0, 0o644)[number])
    for time in (-5, 5_000_000_000_000_000_001, 14_000_000_000 * 10**9):
        write(top, b"metadata/wide %d" % time, b"x")
        os.utime(join(top, b"metadata/wide %d" % time), ns=(time, time))
    attributes(join(top, b"metadata"), long_values=long_values)


def attributes(directory: bytes, *, long_values: bool) -> None:
    named = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry)
        for entry in (
            (1, 7, 2**32 - 1),
            (2, 5, 1000),
            (4, 5, 2**32 - 1),
            (8, 4, 99),
            (16, 7, 2**32 - 1),
            (32, 1, 2**32 - 1),
        )
    )
    for name, pairs in {
        b"small": {"user.a": b"1", "trusted.overlay.opaque": b"y"},
        b"empty": {"user.empty": b"", "user.other": b"\0\0"},
        b"capable": {"security.capability": struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)},
        b"in a block": {"user.large": b"l" * 600, "user.small": b"s", "trusted.t": b"t" * 100},
        b"listed": {"system.posix_acl_access": named},
    }.items():
        path = join(directory, name)
        with open(path, "wb"):
            pass
        for key, value in pairs.items():
            os.setxattr(path, key, value)
    os.mkdir(join(directory, b"with default"))
    os.setxattr(join(directory, b"with default"), "system.posix_acl_default", named)
    os.symlink("somewhere", join(directory, b"marked link"))
    os.setxattr(join(directory, b"marked link"), "trusted.mark", b"m", follow_symlinks=False)
    if long_values:
        for number in range(3):
            path = join(directory, b"long %d" % number)
            with open(path, "wb"):
                pass
            os.setxattr(path, "user.long", b"shared by some" * 3000)
            os.setxattr(path, "user.own", b"%d" % number * 60_000)


def write(top: bytes, path: bytes, content: bytes | None) -> None:
    if content is None:
        os.mkdir(join(top, path))
        return
    with open(join(top, path), "wb") as file:
        file.write(content)


def fallocate(path: bytes, mode: int, offset: int, length: int) -> None:
    """Set blocks aside (mode 0) or take them away (3); a file system that cannot is left alone."""
    descriptor = os.open(path, os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length))
    os.close(descriptor)


def reader_tree(reader: Ext4Reader) -> Iterator[tuple[bytes, tuple[Stat, bytes]]]:
    root = reader.lookup(b"")
    assert root is not None
    pending = [root]
    while pending:
        found = pending.pop()
        content = b"".join(reader.read(found)) if isinstance(found.entry, Regular) else b""
        yield found.entry.path, (found, content)
        if isinstance(found.entry, Directory):
            pending.extend(reader.children(found.entry))


def kernel_tree(top: bytes, path: bytes = b"") -> Iterator[tuple[bytes, tuple[Stat, bytes]]]:
    place = join(top, path) if path else top
    status = os.lstat(place)
    content = b""
    if stat.S_ISREG(status.st_mode):
        with open(place, "rb") as file:
            content = file.read()
    yield path, (Stat(kernel_entry(place, path, status), status.st_ino, status.st_nlink), content)
    if stat.S_ISDIR(status.st_mode):
        for name in os.listdir(place):
            yield from kernel_tree(top, join(path, name))


def kernel_entry(place: bytes, path: bytes, status: os.stat_result) -> Entry:
    names = sorted(os.fsencode(name) for name in os.listxattr(place, follow_symlinks=False))
    xattrs = tuple((name, os.getxattr(place, name, follow_symlinks=False)) for name in names)
    metadata = Metadata(status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    match stat.S_IFMT(status.st_mode):
        case stat.S_IFREG:
            return Regular(path, metadata, status.st_size)
        case stat.S_IFDIR:
            return Directory(path, metadata)
        case stat.S_IFLNK:
            return Symlink(path, metadata, os.readlink(place))
        case stat.S_IFCHR:
            return CharDevice(path, metadata, major, minor)
        case stat.S_IFBLK:
            return BlockDevice(path, metadata, major, minor)
        case stat.S_IFIFO:
            return Fifo(path, metadata)
        case _:
            return Socket(path, metadata)


def test_the_comparison_sees_a_difference(tmp_path: Path) -> None:
    image = make(tmp_path, SHAPES["ext4"])
    with mounted(image, writable=True) as tree:
        (tree / "file").write_bytes(b"content")
        (path, (found, _)) = [*kernel_tree(os.fsencode(tree))][-1]
        assert found != replace(found, links=found.links + 1), path
