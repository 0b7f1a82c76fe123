"""The two parsers of the superblock, which share nothing, against dumpe2fs and against each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.ext4_images import ask_dumpe2fs, make_ext4

from drypoint.disk import FileDevice
from drypoint.disk.ext4.read.blocks import Volume
from drypoint.disk.ext4.resize.geometry import read_geometry
from drypoint.disk.ext4.write.superblock import load_superblock
from drypoint.errors import FilesystemError
from drypoint.samples.tools import run_tool

pytestmark = pytest.mark.needs("mkfs.ext4", "dumpe2fs", "debugfs")

MIB = 1 << 20
SHAPES = {
    "default": (),
    "wide, 1 KiB": ("-b", "1024", "-O", "64bit,metadata_csum", "-m", "7"),
    "narrow": ("-O", "^64bit,^metadata_csum,^resize_inode", "-I", "128"),
    "meta_bg": ("-b", "1024", "-O", "meta_bg,^resize_inode,metadata_csum_seed", "-g", "1024"),
    "ext2": ("-t", "ext2", "-b", "2048", "-L", "label"),
}
FIELDS = (
    "block_size", "blocks_count", "reserved_blocks", "free_blocks", "first_data_block", "blocks_per_group", "inodes_count",
    "free_inodes", "inodes_per_group", "inode_size", "descriptor_size", "reserved_gdt_blocks", "uuid",
)  # fmt: skip
DUMPED = {
    "block_size": "Block size",
    "blocks_count": "Block count",
    "reserved_blocks": "Reserved block count",
    "free_blocks": "Free blocks",
    "first_data_block": "First block",
    "blocks_per_group": "Blocks per group",
    "inodes_count": "Inode count",
    "free_inodes": "Free inodes",
    "inodes_per_group": "Inodes per group",
    "inode_size": "Inode size",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_both_read_what_dumpe2fs_reads(tmp_path: Path, shape: str) -> None:
    image = make_ext4(tmp_path / "image", 40 * MIB, *SHAPES[shape])
    with FileDevice(image) as device:
        read, written, geometry = Volume(device).superblock, load_superblock(device), read_geometry(device)
    for field in FIELDS:
        assert getattr(read, field) == getattr(written, field), field
        assert getattr(geometry, field, getattr(written, field)) == getattr(written, field), field
    told = ask_dumpe2fs(image)
    for field, name in DUMPED.items():
        assert getattr(written, field) == int(told[name]), field
    assert sorted(read.features) == sorted(told["Filesystem features"].split())
    assert read.clean
    assert written.is_clean
    assert written.why_unclean is None


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("feature needs_recovery", "a journal that was not replayed"),
        ("ssv state 0", "was not cleanly unmounted"),
        ("ssv state 3", "is marked as having errors"),
        ("ssv last_orphan 12", "has deleted files that are not yet freed"),
    ],
)
def test_what_keeps_it_from_being_written_to(tmp_path: Path, command: str, why: str) -> None:
    image = make_ext4(tmp_path / "image", 8 * MIB)
    run_tool("debugfs", "-w", "-R", command, image)
    with FileDevice(image) as device:
        assert why in str(load_superblock(device).why_unclean)


def test_an_external_journal_is_found_by_its_uuid(tmp_path: Path) -> None:
    image = make_ext4(tmp_path / "image", 8 * MIB)
    with FileDevice(image) as device:
        assert load_superblock(device).external_journal is None
    uuid = "64727970-6f69-4e74-8000-000000000001"
    run_tool("debugfs", "-w", "-f", "-", image, script=f"ssv journal_inum 0\nssv journal_uuid {uuid}\n")
    with FileDevice(image) as device:
        assert load_superblock(device).external_journal == uuid


def test_a_device_without_one(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(4096))
    with FileDevice(path) as device:
        with pytest.raises(FilesystemError, match="magic number is 0x0000"):
            load_superblock(device)
        with pytest.raises(FilesystemError, match="magic number is missing"):
            Volume(device)
