"""The ext4 reader on images from mkfs, judged by debugfs, and on images that were tampered with."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import fastcrc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.devices import MemoryDevice

from drypoint.disk.ext4.read.blocks import Cache
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.errors import DrypointError, FilesystemError
from drypoint.fstree import Directory, Regular, Stat, Symlink
from drypoint.samples.tools import missing_tools, run_tool

pytestmark = pytest.mark.skipif(bool(missing_tools(["mkfs.ext4", "debugfs"])), reason="needs e2fsprogs")

SHAPES = {
    "checksums": ("-O", "metadata_csum,64bit", "-b", "1024"),
    "no checksums": ("-O", "^metadata_csum,^64bit", "-b", "1024"),
    "block maps": ("-O", "^extent,^metadata_csum,^64bit,^flex_bg", "-b", "1024", "-I", "128"),
    "inline": ("-O", "inline_data,^metadata_csum,^uninit_bg", "-b", "1024"),
    "values in inodes": ("-O", "ea_inode,metadata_csum_seed,large_dir", "-b", "4096"),
    "large blocks": ("-O", "metadata_csum,^has_journal", "-b", "65536", "-m", "0"),
}
READ_AT_MOST = 8
"""Chunks of up to 1 MiB taken of each file: a damaged inode can claim terabytes of nothing."""


@cache
def image(shape: str) -> bytes:
    with TemporaryDirectory() as directory:
        tree = Path(directory, "tree")
        for number in range(60):
            place = tree / "many" / f"{number % 3}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"file {number}").write_bytes(b"%d " % number * number)
        (tree / "empty").write_bytes(b"")
        (tree / "large").write_bytes(bytes(range(256)) * 1200)
        with (tree / "holes").open("wb") as file:
            file.seek(200_000)
            file.write(b"end")
        (tree / "short").symlink_to("to")
        (tree / "long").symlink_to("far/" * 40)
        made = Path(directory, "image")
        with made.open("wb") as file:
            file.truncate((16 if shape == "large blocks" else 2) << 20)
        run_tool("mkfs.ext4", "-q", "-F", "-N", "128", *SHAPES[shape], "-d", tree, made)
        Path(directory, "value").write_bytes(b"long value " * 350)
        commands = ["mknod device c 300 70000", "mknod whiteout c 0 0", "mknod pipe p", "ea_set empty user.a 1"]
        if shape != "block maps":
            commands.append("ea_set large trusted.second two")
        if shape == "values in inodes":
            commands += [f"ea_set -f {directory}/value large user.{name}" for name in ("first", "second")]
        run_tool("debugfs", "-w", "-f", "/dev/stdin", made, script="\n".join(commands))
        return made.read_bytes()


def walk(reader: Ext4Reader) -> Iterator[tuple[Stat, bytes]]:
    root = reader.lookup(b"")
    assert root is not None
    pending = [root]
    while pending:
        found = pending.pop()
        content = b""
        if isinstance(found.entry, Regular):
            content = b"".join(bytes(chunk) for chunk in islice(reader.read(found), READ_AT_MOST))
        yield found, content
        if isinstance(found.entry, Directory):
            pending.extend(reader.children(found.entry))


def xattrs_of(found: Stat) -> tuple[tuple[bytes, bytes], ...]:
    assert isinstance(found.entry, Regular)
    return found.entry.metadata.xattrs


@pytest.mark.parametrize("shape", SHAPES)
def test_content_is_what_debugfs_gives(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(image(shape))
    reader = Ext4Reader(MemoryDevice(image(shape)))
    found = {stat.entry.path: (stat, content) for stat, content in walk(reader)}
    assert found[b"empty"][1] == b""
    for name in (b"large", b"holes", b"many/2/file 59"):
        run_tool("debugfs", "-R", f'dump "{name.decode()}" {tmp_path}/out', path)
        assert found[name][1] == (tmp_path / "out").read_bytes()
    assert len([name for name in found if name.startswith(b"many/")]) == 63
    links = [found[name][0].entry for name in (b"short", b"long")]
    assert [link.target for link in links if isinstance(link, Symlink)] == [b"to", b"far/" * 40]
    assert xattrs_of(found[b"empty"][0]) == ((b"user.a", b"1"),)
    if shape == "values in inodes":
        values = dict(xattrs_of(found[b"large"][0]))
        assert values[b"user.first"] == values[b"user.second"] == b"long value " * 350


@pytest.mark.parametrize("shape", SHAPES)
def test_looking_up_agrees_with_listing(shape: str) -> None:
    reader = Ext4Reader(MemoryDevice(image(shape)))
    for found, _ in walk(reader):
        assert Ext4Reader(MemoryDevice(image(shape))).lookup(found.entry.path) == found
    assert reader.lookup(b"many/0/nothing") is None
    assert reader.lookup(b"large/below") is None


def test_a_directory_is_read_in_few_reads() -> None:
    device = MemoryDevice(image("checksums"))
    reader = Ext4Reader(device)
    many = reader.lookup(b"many/1")
    assert many is not None
    assert isinstance(many.entry, Directory)
    before = len(device.reads)
    assert len(list(reader.children(many.entry))) == 20
    assert len(device.reads) - before <= 3


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "large blocks"])
@settings(max_examples=60, deadline=2000)
@given(data=st.data())
def test_tampering_never_leads_astray(shape: str, data: st.DataObject) -> None:
    content = bytearray(image(shape))
    used = [position for position in range(0, len(content), 64) if any(content[position : position + 64])]
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.sampled_from(used)) + data.draw(st.integers(0, 63))
        content[position] = data.draw(st.integers(0, 255))
    resign_superblock(content)
    device = MemoryDevice(content)
    with suppress(DrypointError):
        for _ in walk(Ext4Reader(device, allow_dirty=True)):
            pass
    assert len(device.reads) < 5000


@settings(max_examples=200, deadline=2000)
@given(position=st.integers(0, 1023), value=st.integers(0, 255), shape=st.sampled_from(list(SHAPES)))
def test_any_superblock_is_taken_or_refused(position: int, value: int, shape: str) -> None:
    content = bytearray(image(shape))
    content[1024 + position] = value
    resign_superblock(content)
    with suppress(DrypointError):
        for _ in walk(Ext4Reader(MemoryDevice(content))):
            pass


def resign_superblock(content: bytearray) -> None:
    """Make the checksum right again, so that what lies behind it is reached."""
    crc = fastcrc.crc32.iscsi(bytes(content[1024 : 1024 + 0x3FC])) ^ 0xFFFFFFFF
    struct.pack_into("<I", content, 1024 + 0x3FC, crc)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0x38, b"\0\0", "no ext2, ext3 or ext4 file system"),
        (0x60, b"\x01", "uses compression"),
        (0x60, b"\x08", "uses journal_dev"),
        (0x63, b"\x80", "uses FEATURE_I31"),
        (0x48, b"\1\0\0\0", "made for the Hurd"),
        (0x18, b"\xff\0\0\0", "block size"),
        (0x58, b"\x81\0", "inode size"),
        (0x20, b"\0\0\0\0", "blocks a group"),
        (0x28, b"\0\0\0\0", "inodes a group"),
        (0x04, b"\xff\xff\xff\xff", "cut short"),
        (0x00, b"\1\0\0\0", "it counts 1 inodes"),
        (0x14, b"\7\0\0\0", "first data block"),
        (0xFE, b"\1\0", "group descriptor size"),
        (0x175, b"\7", "unknown type 7"),
    ],
)
def test_superblocks_that_cannot_be_read_are_refused(offset: int, value: bytes, message: str) -> None:
    content = bytearray(image("checksums"))
    content[1024 + offset : 1024 + offset + len(value)] = value
    resign_superblock(content)
    with pytest.raises(FilesystemError, match=message):
        Ext4Reader(MemoryDevice(content))


def test_a_superblock_with_a_wrong_checksum_is_refused() -> None:
    content = bytearray(image("checksums"))
    content[1024 + 0x80] ^= 1
    with pytest.raises(FilesystemError, match=r"superblock of .* checksum is wrong"):
        Ext4Reader(MemoryDevice(content))


def test_a_journal_to_be_replayed_is_refused_unless_asked() -> None:
    content = bytearray(image("checksums"))
    content[1024 + 0x60] |= 4
    resign_superblock(content)
    with pytest.raises(FilesystemError, match="journal needs recovery"):
        Ext4Reader(MemoryDevice(content))
    assert Ext4Reader(MemoryDevice(content), allow_dirty=True).needs_recovery


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("set_inode_field large checksum 0x1234", r"inode \d+ .* checksum is wrong"),
        ("set_bg 0 checksum 0x1234", "descriptor of group 0 .* checksum is wrong"),
        ("set_inode_field many size 4294967295", "directory inode .* claims to be"),
        ("set_inode_field large mode 0170000", "it says that inode 14 is of another type"),
        ("set_inode_field large links_count 0", "not in use, yet something points to it"),
        ("set_inode_field large block[0] 0", "extent tree .* header"),
        ("set_inode_field large block[4] 0x7fff", "extent tree .* out of order|points to blocks"),
        ("set_inode_field large flags 0x80800", "is encrypted"),
        ("set_inode_field short size 9000", "its target has 9000 bytes"),
        ("set_inode_field empty size 0x4000000000000000", "claims to be"),
        ("link many many/0/again", "holds it"),
    ],
)
def test_damage_is_named(tmp_path: Path, command: str, message: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(image("checksums"))
    run_tool("debugfs", "-w", "-R", command, path)
    with pytest.raises(FilesystemError, match=message):
        list(walk(Ext4Reader(MemoryDevice(path.read_bytes()))))


def test_a_cache_keeps_what_was_used_last() -> None:
    kept: Cache[str, int] = Cache(3)
    kept.put("a", 1)
    kept.put("b", 2, 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
    kept.put("huge", 4, 100)
    assert (kept.get("huge"), kept.get("c")) == (4, None)
    kept.put("huge", 5, 1)
    assert kept.get("huge") == 5
