"""The device type of a disk image, from its boot partition."""

from __future__ import annotations

from pathlib import Path

import pytest

from drypoint.balena.device_type import DeviceType, read_device_type
from drypoint.disk import FileDevice
from drypoint.errors import UsageError
from drypoint.samples.disk_images import IMAGE_TOOLS, RASPBERRY_PI_4, PartitionTable, build_disk_image
from drypoint.samples.tools import run_tool


@pytest.mark.needs(*IMAGE_TOOLS)
@pytest.mark.parametrize("table", PartitionTable)
def test_it_is_read_from_the_boot_partition(tmp_path: Path, table: PartitionTable) -> None:
    image = build_disk_image(tmp_path / "disk.img", table=table, device_type=RASPBERRY_PI_4)
    with FileDevice(image.path) as device:
        assert read_device_type(device) == DeviceType("raspberrypi4-64", "aarch64")


@pytest.mark.needs(*IMAGE_TOOLS)
def test_a_boot_partition_without_a_label_is_known_by_its_name(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", table=PartitionTable.GPT, device_type=RASPBERRY_PI_4)
    boot = image.partition("resin-boot")
    place = f"{image.path}@@{boot.offset}"
    run_tool("mcopy", "-i", place, "::device-type.json", tmp_path)
    run_tool("mkfs.vfat", "--offset", str(boot.offset // 512), image.path, str(boot.size // 1024))
    with FileDevice(image.path) as device:
        assert read_device_type(device) is None
        run_tool("mcopy", "-i", place, tmp_path / "device-type.json", "::")
        assert read_device_type(device) == DeviceType("raspberrypi4-64", "aarch64")


@pytest.mark.parametrize(
    ("arch", "platform"),
    [
        ("aarch64", "linux/arm64"),
        ("amd64", "linux/amd64"),
        ("armv7hf", "linux/arm/v7"),
        ("i386", "linux/386"),
        ("rpi", "linux/arm/v6"),
    ],
)
def test_each_processor_of_balenas_has_a_platform(arch: str, platform: str) -> None:
    assert str(DeviceType("some-board", arch).platform) == platform


def test_an_unknown_processor_is_told_with_its_device_type() -> None:
    with pytest.raises(UsageError, match=r"device type 'some-board', of the unknown architecture 'z80'.* --platform"):
        _ = DeviceType("some-board", "z80").platform
