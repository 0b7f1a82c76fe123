"""Disk images whose file ends before their last partition, as genimage makes them: taken where only zeros can be missing."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.ext4_images import judge_ext4, make_ext4
from tests.support.flasher_images import build_flasher_image

from drypoint.cli.app import cli
from drypoint.disk.device import FileDevice
from drypoint.disk.tables.table_reading import read_table
from drypoint.disk.tables.tail import pad_missing_tail
from drypoint.errors import PartitionTableError
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import MIB, build_disk_image
from drypoint.samples.images import write_oci_layout
from drypoint.samples.tools import run_tool

pytestmark = pytest.mark.needs("sfdisk", "mkfs.ext4", "e2fsck")

SHORT = {
    "mbr": 'partition-table-type = "mbr"',
    "gpt": 'partition-table-type = "gpt"\ngpt-no-backup = true',
}
LAYOUTS = {
    "data in a larger partition": 'partition data { image = "data.ext4" partition-type = 0x83 size = 64M }',
    "an empty partition behind it": """partition data { image = "data.ext4" partition-type = 0x83 }
        partition rest { partition-type = 0x83 size = 64M }""",
}
LOGICAL = """partition one { image = "boot.vfat" partition-type = 0xc }
    partition two { image = "boot.vfat" partition-type = 0xc }
    partition data { image = "data.ext4" partition-type = 0x83 size = 64M }"""


def genimage(directory: Path, table: str, partitions: str) -> Path:
    """What genimage makes of a data partition of 12 MiB, and a boot partition before it."""
    for name in ("input", "root"):
        (directory / name).mkdir()
    make_ext4(directory / "input/data.ext4", 12 * MIB, "-L", "data")
    (directory / "root/hello").write_text("hello")
    (directory / "config").write_text(
        'image boot.vfat { vfat { label = "BOOT" } size = 4M }\n'
        f"image disk.img {{ hdimage {{ {table} }}\n"
        f'partition boot {{ image = "boot.vfat" partition-type = 0xc }}\n{partitions} }}\n'
    )
    if "gpt" in table:
        config = directory / "config"
        config.write_text(re.sub(r"partition-type = \w+", "", config.read_text()))
    options = [f"--{name}path={directory / name}" for name in ("input", "root", "tmp", "output")]
    run_tool("genimage", f"--config={directory / 'config'}", *options)
    return directory / "output/disk.img"


def end_of_table(path: Path) -> int:
    """By sfdisk's reading of a copy that is long enough."""
    copy = path.with_name("long.img")
    shutil.copy(path, copy)
    os.truncate(copy, 256 * MIB)
    listed = subprocess.run(["/usr/sbin/sfdisk", "-d", copy], check=True, capture_output=True, text=True).stdout
    copy.unlink()
    return max(512 * (int(start) + int(size)) for start, size in re.findall(r"start= *(\d+), size= *(\d+)", listed))


def drypoint(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("layout") / "layout"
    write_oci_layout(path, {"demo/weather:1.0": sample_images()["demo/weather:1.0"]})
    return f"oci:{path}"


@pytest.mark.needs("genimage", "mkfs.vfat", "mcopy", "debugfs")
@pytest.mark.parametrize("content", LAYOUTS)
@pytest.mark.parametrize("table", SHORT)
def test_what_genimage_makes_is_preloaded(tmp_path: Path, layout: str, table: str, content: str) -> None:
    base = genimage(tmp_path, SHORT[table], LAYOUTS[content])
    before = base.read_bytes()
    assert len(before) < 18 * MIB
    output = tmp_path / "out.img"
    options = ("--image", layout, "--data-partition", "data", "--data-root", "/var/lib/docker")
    done = drypoint("preload", base, "-o", output, *options)
    assert done.exit_code == 0, done.exception
    assert "the missing bytes are read as zeros" in done.stderr
    assert base.read_bytes() == before
    with FileDevice(output) as device:
        found = read_table(device).partitions
    assert output.stat().st_size >= found[-1].end
    judge_ext4(output, offset=found[1].start)
    assert drypoint("verify", output, *options[2:]).exit_code == 0
    packed = tmp_path / "base.img.gz"
    packed.write_bytes(gzip.compress(before, 1))
    assert drypoint("preload", packed, "-o", tmp_path / "two.img", *options).exit_code == 0
    assert (tmp_path / "two.img").read_bytes() == output.read_bytes()
    archive = tmp_path / "app.etch"
    assert drypoint("pack", base, "-o", archive, *options).exit_code == 0
    injected = drypoint("inject", archive, tmp_path / "three.img")
    assert injected.exit_code == 0, injected.exception
    assert drypoint("verify", tmp_path / "three.img", *options[2:]).exit_code == 0
    assert drypoint("preload", base, "--in-place", *options).exit_code == 0
    assert base.read_bytes() == output.read_bytes()


@pytest.mark.needs("genimage", "mkfs.vfat", "mcopy")
@pytest.mark.parametrize("options", ["", "extended-partition = 2"])
def test_where_the_file_would_end(tmp_path: Path, options: str) -> None:
    path = genimage(tmp_path, f'partition-table-type = "mbr"\n{options}', LOGICAL)
    with FileDevice(path) as device:
        pad_missing_tail(device)
        assert device.size == end_of_table(path) > path.stat().st_size
        assert read_table(device).partitions[-1].end == device.size
        assert device.read(device.size - 1000, 1000) == bytes(1000)


def disk(path: Path, script: str, size: int, **filesystems: int) -> Path:
    """A disk image by sfdisk, with ext4 file systems of so many MiB at so many."""
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["/usr/sbin/sfdisk", "-q", path], input=script.encode(), check=True, capture_output=True)
    for at, length in filesystems.items():
        made = make_ext4(path.with_name("fs"), length * MIB)
        subprocess.run(
            ["dd", f"if={made}", f"of={path}", "bs=1M", f"seek={at[1:]}", "conv=notrunc,sparse", "status=none"],
            check=True,
        )
    return path


TWO = "label: dos\nstart=2048, size=16384, type=83\nstart=18432, size=81920, type=83\n"
END = 49 * MIB


@pytest.mark.parametrize(
    ("size", "taken"),
    [
        (END - 1, True),  # in the room behind the second file system
        (17 * MIB, True),  # right behind it
        (17 * MIB - 4096, False),  # its last block is missing
        (10 * MIB, False),  # the middle of it
        (9 * MIB, True),  # the first partition's end: nothing of the second is there
        (8 * MIB, False),  # room behind the first file system, and nothing of the second one
        (5 * MIB, True),  # the first file system's end
    ],
)
def test_the_end_decides(tmp_path: Path, size: int, taken: bool) -> None:
    path = disk(tmp_path / "disk.img", TWO, 64 * MIB, _1=4, _9=8)
    os.truncate(path, size)
    with FileDevice(path) as device:
        pad_missing_tail(device)
        if taken:
            assert read_table(device).partitions[-1].end == device.size == END
        else:
            with pytest.raises(PartitionTableError, match=rf"download cut short\?.*truncate -s {END} FILE"):
                read_table(device)
            assert device.size == size


def test_content_that_is_not_known_may_be_cut(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk.img", TWO, 64 * MIB, _1=4)
    os.truncate(path, 20 * MIB)
    with FileDevice(path) as device:
        pad_missing_tail(device)
        with pytest.raises(PartitionTableError, match=f"truncate -s {END} FILE"):
            read_table(device)
    os.truncate(path, END)
    with FileDevice(path) as device:
        assert len(read_table(device).partitions) == 2


def test_a_bare_file_system_shorter_than_its_superblock_says(tmp_path: Path) -> None:
    path = make_ext4(tmp_path / "bare.img", 12 * MIB)
    os.truncate(path, 11 * MIB)
    with FileDevice(path) as device:
        pad_missing_tail(device)
        with pytest.raises(PartitionTableError, match=rf"has only {11 * MIB}; .*truncate -s {12 * MIB} FILE"):
            read_table(device)
    os.truncate(path, 12 * MIB)
    judge_ext4(path)


def test_padding_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with FileDevice(path, writable=True) as device:
        device.pad(10)
        assert (device.size, device.read(0, 10), device.read(5, 2)) == (10, b"abc" + bytes(7), bytes(2))
        assert list(device.data_extents(0, 10)) == [(0, 3)]
        assert path.stat().st_size == 3
        device.extend(10)
        assert path.read_bytes() == b"abc" + bytes(7)


@pytest.mark.needs("mkfs.vfat", "mcopy", "debugfs")
def test_the_disk_image_inside_a_flasher(tmp_path: Path, layout: str) -> None:
    inner = build_disk_image(tmp_path / "inner.img")
    data = inner.partition("resin-data")
    make_ext4(tmp_path / "data", 16 * MIB, "-L", "resin-data")
    with inner.path.open("r+b") as file:
        file.truncate(data.offset)
        file.seek(data.offset)
        file.write((tmp_path / "data").read_bytes())
    flasher = build_flasher_image(tmp_path / "flasher.img", inner.path)
    output = tmp_path / "out.img"
    assert drypoint("plan", flasher.disk.path, "--image", layout).exit_code == 0
    done = drypoint("preload", flasher.disk.path, "-o", output, "--image", layout)
    assert done.exit_code == 0, done.exception
    assert drypoint("verify", output).exit_code == 0
    root = flasher.disk.partition("flash-rootA")
    judge_ext4(output, offset=root.offset)
    dumped = tmp_path / "dumped.img"
    run_tool("debugfs", "-R", f"dump /{flasher.path} {dumped}", f"{output}?offset={root.offset}")
    with FileDevice(dumped) as device:
        assert read_table(device).partitions[-1].end <= device.size
    judge_ext4(dumped, offset=data.offset)
