"""File systems told by their superblocks, against what the real formatters and dumpe2fs say."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ext4_images import ask_dumpe2fs

from drypoint.disk.device import FileDevice
from drypoint.disk.filesystem_info import FilesystemInfo, FilesystemKind
from drypoint.disk.probe import probe, probe_compressed

MIB = 1 << 20


def sparse(path: Path, size: int) -> Path:
    path.unlink(missing_ok=True)
    path.touch()
    os.truncate(path, size)
    return path


def probed(path: Path) -> FilesystemInfo | None:
    with FileDevice(path) as device:
        return probe(device)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ("-t ext4", FilesystemKind.EXT4),
        ("-t ext4 -O ^has_journal,inline_data,casefold", FilesystemKind.EXT4),
        ("-t ext3", FilesystemKind.EXT3),
        ("-t ext2", FilesystemKind.EXT2),
        ("-t ext4 -O encrypt,project,quota,verity,mmp,orphan_file,large_dir,ea_inode", FilesystemKind.EXT4),
    ],
)
def test_ext_is_read_as_dumpe2fs_reads_it(tmp_path: Path, options: str, kind: FilesystemKind) -> None:
    path = sparse(tmp_path / "fs", 16 * MIB)
    subprocess.run(
        ["/usr/sbin/mke2fs", "-q", "-F", "-b", "1024", *options.split(), "-L", "sixteen-letters!", str(path)],
        check=True,
        capture_output=True,
    )
    fields = ask_dumpe2fs(path)
    info = probed(path)
    assert info is not None
    assert info.kind is kind
    assert info.label == fields["Filesystem volume name"] == "sixteen-letters!"
    assert info.uuid == fields["Filesystem UUID"]
    assert info.block_size == int(fields["Block size"])
    assert info.size == int(fields["Block count"]) * 1024
    assert set(info.features) == set(fields["Filesystem features"].split())


@pytest.mark.parametrize(
    ("size", "options", "kind"),
    [
        (2 * MIB, "-c 2", FilesystemKind.FAT12),
        (32 * MIB, "-c 4", FilesystemKind.FAT16),
        (64 * MIB, "-F -c 1", FilesystemKind.FAT32),
    ],
)
def test_fat(tmp_path: Path, size: int, options: str, kind: FilesystemKind) -> None:
    path = sparse(tmp_path / "fs", size)
    command = [
        "mformat",
        "-i",
        str(path),
        "-T",
        str(size // 512),
        "-v",
        "RESIN-BOOT",
        "-N",
        "1234ABCD",
        *options.split(),
    ]
    subprocess.run([*command, "::"], check=True)
    info = probed(path)
    assert info is not None
    assert (info.kind, info.label, info.uuid, info.size) == (kind, "RESIN-BOOT", "1234-ABCD", size)


def test_the_root_directorys_label_goes_before_the_boot_sectors(tmp_path: Path) -> None:
    path = sparse(tmp_path / "fs", 2 * MIB)
    subprocess.run(["mformat", "-i", str(path), "-T", "4096", "-c", "2", "-v", "OLD", "::"], check=True)
    with path.open("r+b") as file:
        file.seek(43)
        assert file.read(11) == b"OLD        "
        file.seek(43)
        file.write(b"STALE      ")
    info = probed(path)
    assert info is not None
    assert info.label == "OLD"
    subprocess.run(["mlabel", "-i", str(path), "-c", "::"], check=True, capture_output=True)
    with path.open("r+b") as file:
        file.seek(43)
        file.write(b"resin-boot ")
    info = probed(path)
    assert info is not None
    assert info.label == "resin-boot"


def test_swap(tmp_path: Path) -> None:
    path = sparse(tmp_path / "fs", 2 * MIB)
    uuid = "0f5a0000-0000-0000-0000-000000000001"
    subprocess.run(["/usr/sbin/mkswap", "-q", "-L", "swap", "-U", uuid, str(path)], check=True, capture_output=True)
    assert probed(path) == FilesystemInfo(FilesystemKind.SWAP, label="swap", uuid=uuid, block_size=4096)


MAGICS = {
    FilesystemKind.LUKS1: (0, b"LUKS\xba\xbe\x00\x01"),
    FilesystemKind.LUKS2: (0, b"LUKS\xba\xbe\x00\x02"),
    FilesystemKind.LVM: (512, b"LABELONE"),
    FilesystemKind.BTRFS: (0x10040, b"_BHRfS_M"),
    FilesystemKind.F2FS: (1024, b"\x10\x20\xf5\xf2"),
    FilesystemKind.XFS: (0, b"XFSB"),
    FilesystemKind.SQUASHFS: (0, b"hsqs"),
    FilesystemKind.EROFS: (1024, b"\xe2\xe1\xf5\xe0"),
    FilesystemKind.ISO9660: (32769, b"CD001"),
    FilesystemKind.EXFAT: (3, b"EXFAT   "),
    FilesystemKind.NTFS: (3, b"NTFS    "),
}


@pytest.mark.parametrize("kind", MAGICS)
def test_the_others_are_told_by_magic(tmp_path: Path, kind: FilesystemKind) -> None:
    path = sparse(tmp_path / "fs", MIB)
    offset, magic = MAGICS[kind]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(magic)
    info = probed(path)
    assert info is not None
    assert info.kind is kind
    if shutil.which("blkid", path="/usr/sbin:/sbin") and kind in (FilesystemKind.LUKS1, FilesystemKind.LVM):
        said = subprocess.run(
            ["/usr/sbin/blkid", "-p", "-s", "TYPE", str(path)], capture_output=True, check=False
        ).stdout
        assert said == b"" or b"LUKS" in said or b"LVM" in said


def test_nothing_known(tmp_path: Path) -> None:
    assert probed(sparse(tmp_path / "fs", MIB)) is None
    assert probed(sparse(tmp_path / "fs", 0)) is None
    assert probed(sparse(tmp_path / "fs", 100)) is None


@pytest.mark.parametrize(("command", "name"), [("gzip", "gzip"), ("xz", "xz"), ("bzip2", "bzip2"), ("zstd", "zstd")])
def test_compression_is_told_by_its_magic(tmp_path: Path, command: str, name: str) -> None:
    if command == "zstd":
        data = b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00"
    else:
        data = subprocess.run([command, "-c"], input=b"x", check=True, capture_output=True).stdout
    path = tmp_path / "file"
    path.write_bytes(data)
    with FileDevice(path) as device:
        assert probe_compressed(device) == name


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_random_superblocks_raise_nothing(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    offset, magic = data.draw(st.sampled_from([*MAGICS.values(), (1080, b"\x53\xef"), (510, b"\x55\xaa")]))
    image = bytearray(data.draw(st.sampled_from([600, 2048, 70000])))
    chunk = data.draw(st.binary(max_size=300))
    place = data.draw(st.integers(0, min(len(image) - 300, 1200)))
    image[place : place + len(chunk)] = chunk
    if magic == b"\x55\xaa":
        image[0] = 0xEB
    image[offset : offset + len(magic)] = magic
    path = tmp_path_factory.getbasetemp() / "random"
    path.write_bytes(image)
    probed(path)
