"""Reading the boot partition: real FAT file systems, made by mkfs.vfat and filled by mtools, at an offset in a disk image."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drypoint.disk import FileDevice, Window
from drypoint.disk.fat import read_fat_file
from drypoint.errors import FilesystemError

OFFSET = 4 << 20
SIZE = 40 << 20


@pytest.fixture(params=["12", "16", "32"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    size = {"12": 4 << 20, "16": 16 << 20, "32": SIZE}[request.param]
    partition = tmp_path / "fat.img"
    with partition.open("wb") as file:
        file.truncate(size)
    subprocess.run(
        ["/usr/sbin/mkfs.vfat", "-F", request.param, "-n", "resin-boot", partition], check=True, capture_output=True
    )
    content = tmp_path / "content"
    content.write_bytes(b'{"slug": "x"}')
    subprocess.run(["mmd", "-i", partition, "::/splash"], check=True)
    subprocess.run(["mcopy", "-i", partition, content, "::/device-type.json"], check=True)
    subprocess.run(["mcopy", "-i", partition, content, "::/splash/balena-logo.png"], check=True)
    with path.open("wb") as file:
        file.seek(OFFSET)
        file.write(partition.read_bytes())
    return path


def test_files_are_read_where_they_are(disk: Path) -> None:
    with FileDevice(disk) as device:
        window = Window(device, OFFSET, device.size - OFFSET)
        assert read_fat_file(window, "device-type.json", 100) == b'{"slug": "x"}'
        assert read_fat_file(window, "splash/balena-logo.png", 100) == b'{"slug": "x"}'
        assert read_fat_file(window, "Device-Type.JSON", 100) == b'{"slug": "x"}'
        assert read_fat_file(window, "config.json", 100) is None
        assert read_fat_file(window, "nowhere/config.json", 100) is None


def test_a_file_over_the_limit_is_refused(disk: Path) -> None:
    with FileDevice(disk) as device, pytest.raises(FilesystemError, match="more than 12 bytes"):
        read_fat_file(Window(device, OFFSET, device.size - OFFSET), "device-type.json", 12)


def test_what_is_no_fat_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(8 << 20))
    with FileDevice(path) as device, pytest.raises(FilesystemError, match="mcopy says"):
        read_fat_file(Window(device, OFFSET, OFFSET), "device-type.json", 100)
