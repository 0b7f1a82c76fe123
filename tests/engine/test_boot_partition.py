"""What is written to a boot partition, read by others than mtools: 7-Zip, and the kernel where it knows FAT."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from drypoint.balena.boot_request import BootRequest, boot_files
from drypoint.disk import FileDevice, Window
from drypoint.disk.fat.files import write_fat_files
from drypoint.errors import ToolError
from drypoint.samples.disk_images import IMAGE_TOOLS, PartitionTable, build_disk_image
from drypoint.samples.tools import run_tool
from drypoint.volumes.fat_files import put_fat_files
from drypoint.volumes.partitioned_disk import PartitionedDisk
from tests.support.mounts import mounted

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "7zz", "fsck.vfat", "mount", "umount", "losetup", root=True)

TIME = 1_600_000_000
SIZES = {"12": 1 << 20, "16": 9 << 20, "32": 36 << 20}


@pytest.mark.parametrize("table", PartitionTable)
def test_others_read_what_the_options_wrote(table: PartitionTable, tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", table=table)
    boot = image.partition("resin-boot")
    fat = tmp_path / "boot"
    cut(image.path, boot.offset, boot.size, fat)
    before = read_by_7zip(fat)
    with FileDevice(image.path, writable=True) as device:
        files = boot_files(BootRequest(settings=("hostname=demo",), static_ip="10.0.0.1/24,10.0.0.254"), device)
        put_fat_files(PartitionedDisk(device), files, TIME)
    cut(image.path, boot.offset, boot.size, fat)
    after = read_by_7zip(fat)
    assert json.loads(after["config.json"])["hostname"] == "demo"
    assert b"address1=10.0.0.1/24,10.0.0.254\n" in after["system-connections/static_ip"]
    changed = {name: after[name] for name in ("config.json", "system-connections/static_ip")}
    assert after == {**before, **changed}
    with mounted_if_known(fat) as point:
        assert point is None or tree(point) == after


@pytest.mark.parametrize("kind", SIZES)
def test_others_go_on_where_we_stopped(kind: str, tmp_path: Path) -> None:
    fat = tmp_path / "fat"
    with fat.open("wb") as file:
        file.truncate(SIZES[kind])
    run_tool("mkfs.vfat", "-F", kind, "-n", "RESIN-BOOT", fat)
    present = {"Splash/Balena-Logo.png": b"old" * 5000, "a file that stays, with a long name": b"kept" * 5000}
    with mounted_if_known(fat, writable=True) as point:
        if point is None:
            write(fat, present)
        else:
            put(point, present)
    wanted = dict.fromkeys(["config.json", "system-connections/my wifi", "a/b/c/d"], b"content" * 700)
    write(fat, {**wanted, "splash/balena-logo.PNG": b"new"})
    expected = {**present, **wanted, "Splash/Balena-Logo.png": b"new"}
    with mounted_if_known(fat, writable=True) as point:
        if point is not None:
            assert tree(point) == expected
            put(point, {"a/one more": b"more" * 3000})
            expected["a/one more"] = b"more" * 3000
    foreign = {"größe und mehr.conf": b"x", "日本/の名前": b"y" * 5000}
    write(fat, foreign)
    assert read_by_7zip(fat) == {**expected, **foreign}
    run_tool("fsck.vfat", "-n", fat)


def test_7zip_tells_the_time_and_sees_a_file_cut_off(tmp_path: Path) -> None:
    fat = tmp_path / "fat"
    with fat.open("wb") as file:
        file.truncate(SIZES["16"])
    run_tool("mkfs.vfat", "-F", "16", fat)
    write(fat, {"config.json": b"content" * 700})
    assert "2020-09-13 12:26:40" in run_tool("7zz", "l", "-tFAT", fat, extra_environment={"TZ": "UTC0"})
    data = bytearray(fat.read_bytes())
    entry = data.find(b"CONFIG~1JSO")
    data[entry + 26 : entry + 28] = b"\xf0\xff"
    fat.write_bytes(data)
    with pytest.raises(ToolError, match="7zz"):
        assert read_by_7zip(fat) == {"config.json": b"content" * 700}


def write(fat: Path, files: Mapping[str, bytes]) -> None:
    with FileDevice(fat, writable=True) as device:
        write_fat_files(Window(device, 0, device.size), files, timestamp=TIME)


def put(point: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (point / name).parent.mkdir(parents=True, exist_ok=True)
        (point / name).write_bytes(content)


def read_by_7zip(fat: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        run_tool("7zz", "x", "-tFAT", f"-o{name}", fat)
        return tree(Path(name))


@contextmanager
def mounted_if_known(fat: Path, *, writable: bool = False) -> Iterator[Path | None]:
    """The file system mounted, or None if this kernel, built without vfat, cannot."""
    modules = Path("/lib/modules") / platform.release()
    if "\tvfat\n" not in Path("/proc/filesystems").read_text() and not list(modules.rglob("vfat.ko*")):
        yield None
        return
    with mounted(fat, writable=writable) as point:
        yield point


def tree(point: Path) -> dict[str, bytes]:
    return {str(path.relative_to(point)): path.read_bytes() for path in point.rglob("*") if path.is_file()}


def cut(image: Path, offset: int, size: int, target: Path) -> None:
    with image.open("rb") as file:
        file.seek(offset)
        target.write_bytes(file.read(size))
