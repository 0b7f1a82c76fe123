"""Data that belongs to no partition is not lost without a word when a partition grows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.ext4_images import judge_ext4

from drypoint.cli.app import cli
from drypoint.disk import FileDevice, plan_growth, read_table
from drypoint.disk.tables.leftover import Leftover, moved, overwritten
from drypoint.errors import DiskImageError
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import MIB, PartitionTable, build_disk_image
from drypoint.samples.images import write_oci_layout

pytestmark = pytest.mark.needs("sfdisk", "mkfs.ext4", "e2fsck")

ENVIRONMENT = b"bootcmd=run distro_bootcmd\0"
TABLES = {
    "mbr": "label: dos\nstart=8192, size=16384, type=83\nstart=32768, size=16384, type=83\n",
    "gpt": "label: gpt\nstart=8192, size=16384, type=linux\nstart=32768, size=16384, type=linux\n",
    "logical": "label: dos\nstart=8192, size=8192, type=83\nstart=16384, size=40960, type=f\n"
    "start=18432, size=8192, type=83\nstart=32768, size=16384, type=83\n",
}


def disk(path: Path, table: str, size: int, *data: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["/usr/sbin/sfdisk", "-q", path], input=TABLES[table].encode(), check=True, capture_output=True)
    with path.open("r+b") as file:
        for offset in data:
            file.seek(offset)
            file.write(ENVIRONMENT)
    return path


def found(path: Path, index: int, new_size: int) -> tuple[tuple[Leftover, ...], tuple[Leftover, ...]]:
    with FileDevice(path) as device:
        table = read_table(device)
        partition = table.partitions[index]
        plan = plan_growth(table, device.size, partition, new_size)
        return overwritten(device, table, partition, plan), moved(device, table, plan)


def at(offset: int) -> Leftover:
    return Leftover(offset, offset + len(ENVIRONMENT) - 1)


@pytest.mark.parametrize("table", TABLES)
def test_only_what_the_growth_reaches_counts(tmp_path: Path, table: str) -> None:
    path = disk(tmp_path / "disk.img", table, 64 * MIB, 25 * MIB, 40 * MIB)
    assert found(path, -1, 8 * MIB + 1) == ((at(25 * MIB),), ())
    assert found(path, -1, 32 * MIB) == ((Leftover(25 * MIB, 40 * MIB + len(ENVIRONMENT) - 1),), ())
    clean = disk(tmp_path / "clean.img", table, 64 * MIB)
    assert found(clean, -1, 200 * MIB) == ((), ())


@pytest.mark.parametrize("table", ["mbr", "gpt"])
def test_what_lies_between_partitions(tmp_path: Path, table: str) -> None:
    """The first partition ends at 12 MiB, the second begins at 16 and ends at 24."""
    between = disk(tmp_path / "between.img", table, 64 * MIB, 13 * MIB)
    assert found(between, 0, 9 * MIB) == ((at(13 * MIB),), ())
    assert found(between, 0, 30 * MIB)[0] == (at(13 * MIB),)
    behind = disk(tmp_path / "behind.img", table, 64 * MIB, 25 * MIB)
    assert found(behind, 0, 10 * MIB) == ((), ())
    assert found(behind, 0, 30 * MIB)[0] == (at(25 * MIB),)


def test_the_backup_of_a_gpt_does_not_count_and_what_surrounds_it_does(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk.img", "gpt", 40 * MIB)
    assert found(path, -1, 100 * MIB) == ((), ())
    with path.open("r+b") as file:
        file.truncate(48 * MIB)
        file.seek(44 * MIB)
        file.write(ENVIRONMENT)
    assert found(path, -1, 100 * MIB) == ((at(44 * MIB),), ())


@pytest.mark.needs("sgdisk")
def test_an_earlier_backup_of_the_gpt_does_not_count_and_what_looks_like_one_does(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk.img", "gpt", 40 * MIB)
    with path.open("r+b") as file:
        file.seek(40 * MIB - 33 * 512)
        backup = file.read(33 * 512)
        file.truncate(64 * MIB)
    subprocess.run(["/usr/sbin/sgdisk", "--move-second-header", path], check=True, capture_output=True)
    for left in (backup, backup[:512], backup[:-512] + bytes(512)):
        with path.open("r+b") as file:
            file.seek(40 * MIB - 33 * 512)
            file.write(left.ljust(len(backup), b"\0"))
        assert found(path, -1, 100 * MIB) == ((), ())
    for offset, planted in ((16, b"another partition"), (1024, b"x"), (400, b"x")):
        changed = bytearray(backup)
        changed[offset : offset + len(planted)] = planted
        with path.open("r+b") as file:
            file.seek(40 * MIB - 33 * 512)
            file.write(changed)
        assert len(found(path, -1, 100 * MIB)[0]) == 1


def test_what_moves_with_partitions_is_found(tmp_path: Path) -> None:
    """Behind the second of three, and before the third: it moves with that one."""
    table = TABLES["mbr"] + "start=65536, size=8192, type=83\n"
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["/usr/sbin/sfdisk", "-q", path], input=table.encode(), check=True, capture_output=True)
    with path.open("r+b") as file:
        file.seek(28 * MIB)
        file.write(ENVIRONMENT)
    assert found(path, 0, 20 * MIB) == ((), (at(28 * MIB),))


def drypoint(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.needs("mkfs.vfat", "mcopy", "debugfs")
@pytest.mark.parametrize("table", list(PartitionTable))
def test_a_preload_that_would_overwrite_it_is_refused_and_one_that_does_not_keeps_it(
    tmp_path: Path, table: PartitionTable
) -> None:
    base = build_disk_image(tmp_path / "base.img", table=table)
    data = base.partition("resin-data")
    place = data.offset + data.size + 2 * MIB
    with base.path.open("r+b") as file:
        file.truncate(place + 10 * MIB)
        file.seek(place)
        file.write(ENVIRONMENT)
    write_oci_layout(tmp_path / "layout", {"demo/weather:1.0": sample_images()["demo/weather:1.0"]})
    layout = ["--image", f"oci:{tmp_path / 'layout'}"]
    output, block_map = tmp_path / "out.img", tmp_path / "out.bmap"
    before = base.path.read_bytes()
    size = len(ENVIRONMENT) - 1
    commands: list[list[str | Path]] = [
        ["plan", base.path],
        ["preload", base.path, "-o", output],
        ["preload", base.path, "--in-place"],
    ]
    for command in commands:
        done = drypoint(*command, *layout, "--additional-space", "300MiB")
        assert isinstance(done.exception, DiskImageError)
        assert f"(fallocate --punch-hole --offset {place} --length {size} FILE)" in str(done.exception)
        assert base.path.read_bytes() == before
        assert not output.exists()
    # Without growth it stays where it is, and a block map has it.
    done = drypoint("preload", base.path, "-o", output, *layout, "--bmap", block_map)
    assert done.exit_code == 0, done.exception
    with output.open("rb") as file:
        file.seek(place)
        assert file.read(len(ENVIRONMENT)) == ENVIRONMENT
    ranges = [
        tuple(map(int, one.split("-"))) for one in re.findall(r"> (\d+(?:-\d+)?) </Range>", block_map.read_text())
    ]
    assert any(one[0] <= place // 4096 <= one[-1] for one in ranges)
    # What the message asks for is enough.
    subprocess.run(["fallocate", "--punch-hole", "--offset", str(place), "--length", str(size), base.path], check=True)
    done = drypoint("preload", base.path, "-o", tmp_path / "grown.img", *layout, "--additional-space", "300MiB")
    assert done.exit_code == 0, done.exception
    judge_ext4(tmp_path / "grown.img", offset=data.offset)
