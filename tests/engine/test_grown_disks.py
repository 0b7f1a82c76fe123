"""Grown and trimmed disk images before the kernel and libblkid: partitions, mounts, sectors of 4,096 bytes, block devices."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drypoint.disk import FileDevice, Partition, PartitionKind, read_table
from drypoint.errors import DiskImageError
from drypoint.progress import SILENT
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, PartitionTable, Sizes, build_disk_image
from drypoint.samples.tools import run_tool
from drypoint.sizing.space import Space
from drypoint.volumes.partitioned_disk import PartitionedDisk
from drypoint.volumes.writable_volume import WritableVolume
from tests.support.mounts import mounted

pytestmark = [
    pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs", "losetup", "partx", "sgdisk", "mount", "umount", root=True)
]

SMALL = Sizes(boot=40 * MIB, root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=16 * MIB)


@contextmanager
def attached(path: Path, *options: str) -> Iterator[str]:
    loop = run_tool("losetup", "--find", "--show", *options, path).strip()
    try:
        yield loop
    finally:
        run_tool("losetup", "--detach", loop)


def seen_by_kernel(loop: str) -> dict[int, tuple[int, int]]:
    """(start, size) in bytes of each partition by number, an extended one with the kernel's two sectors."""
    found = {}
    for entry in (Path("/sys/block") / Path(loop).name).glob("loop*p*"):
        numbers = [int((entry / name).read_text()) for name in ("partition", "start", "size")]
        found[numbers[0]] = (numbers[1] * 512, numbers[2] * 512)
    return found


def seen_by_partx(loop: str) -> dict[int, tuple[int, int]]:
    """The same as libblkid reads it, which shares no code with sfdisk's library; it counts sectors of 512 bytes always."""
    rows = run_tool("partx", "--raw", "--noheadings", "--output", "NR,START,SECTORS", loop).split()
    numbers = list(map(int, rows))
    return {
        number: (start * 512, size * 512)
        for number, start, size in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    }


@pytest.fixture(scope="module")
def reading_kernel(tmp_path_factory: pytest.TempPathFactory) -> frozenset[PartitionTable]:
    """The kinds of tables that this machine's kernel reads: those of small virtual machines are often built to read none.

    libblkid reads all of them, on every machine.
    """
    kinds = set()
    for table in PartitionTable:
        image = build_disk_image(tmp_path_factory.mktemp("kernel") / "disk.img", table=table, sizes=SMALL)
        with attached(image.path, "--partscan", "--read-only") as loop:
            if seen_by_kernel(loop):
                kinds.add(table)
    return frozenset(kinds)


def growing(disk: FileDevice, selector: str | int, directory: Path) -> WritableVolume:
    return WritableVolume(disk, PartitionedDisk(disk).volume(selector), directory, SILENT)


@pytest.mark.parametrize("table", PartitionTable)
@pytest.mark.parametrize("label", ["resin-data", "resin-state", "resin-rootA"])
def test_the_kernel_finds_and_mounts_what_was_grown(
    tmp_path: Path, reading_kernel: frozenset[PartitionTable], table: PartitionTable, label: str
) -> None:
    image = build_disk_image(tmp_path / "disk.img", table=table, sizes=SMALL)
    with FileDevice(image.path, writable=True) as disk:
        part = growing(disk, label, tmp_path)
        part.make_space(Space(60 * MIB // 4096, 1000))
        part.make_space(Space(150 * MIB // 4096, 1000))
        part.shrink_to_fit(100 * MIB, image.partition(label).size)
        partitions = {item.number: item for item in read_table(disk).partitions}
    with attached(image.path, "--partscan", "--read-only") as loop:
        check_places(seen_by_partx(loop), partitions)
        if table in reading_kernel:
            check_places(seen_by_kernel(loop), partitions)
    for old in image.partitions:
        now = partitions[old.number]
        if old.label == "resin-boot":
            assert json.loads(run_tool("mcopy", "-i", f"{image.path}@@{now.start}", "::device-type.json", "-"))["slug"]
            continue
        with mounted(image.path, offset=now.start, size=now.size) as point:
            assert any(point.iterdir())
            if old.label == label:
                told = os.statvfs(point)
                # The kernel keeps 2 % for itself, at most 4,096 blocks, beside those reserved for root.
                assert (told.f_bavail + min(told.f_blocks // 50, 4096)) * told.f_frsize >= 99 * MIB
        run_tool("e2fsck", "-fn", f"{image.path}?offset={now.start}")


def check_places(seen: dict[int, tuple[int, int]], partitions: dict[int, Partition]) -> None:
    assert seen.keys() == partitions.keys()
    for number, (start, size) in seen.items():
        assert start == partitions[number].start
        if partitions[number].kind is not PartitionKind.EXTENDED:
            assert size == partitions[number].size


@pytest.mark.parametrize("number", [1, 2, 3])
def test_sectors_of_4096_bytes(tmp_path: Path, number: int) -> None:
    """Judged on a loop device with such sectors: sgdisk, and sfdisk before util-linux 2.40, take files for disks of 512."""
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 64 * MIB)
    script = "label: gpt\n" + "".join(
        f'start={start * 256}, size={size * 256}, name="part {start}", attrs="GUID:63"\n'
        for start, size in ((4, 8), (12, 8), (24, 8))
    )
    with attached(path, "--sector-size", "4096") as loop:
        run_tool("sfdisk", "-q", loop, script=script)
        before = json.loads(run_tool("sfdisk", "--json", loop))["partitiontable"]
    offset = {1: 4, 2: 12, 3: 24}[number] * MIB
    run_tool("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", f"offset={offset}", path, "8192k")
    with path.open("r+b") as file:
        for start in {4, 12, 24} - {offset // MIB}:
            file.seek(start * MIB)
            file.write(b"%d" % start * 1000)
    with FileDevice(path, writable=True) as disk:
        part = growing(disk, number, tmp_path)
        part.make_space(Space(100 * MIB // 4096, 0))
        part.shrink_to_fit(70 * MIB, 8 * MIB)
        delta = part.partition.size - 8 * MIB
    with attached(path, "--sector-size", "4096") as loop:
        assert "No problems found" in run_tool("sgdisk", "-v", loop)
        assert "No errors detected" in run_tool("sfdisk", "--verify", loop)
        after = json.loads(run_tool("sfdisk", "--json", loop))["partitiontable"]
        assert [start for start, _ in seen_by_partx(loop).values()] == [
            entry["start"] * 4096
            for entry in json.loads(run_tool("sfdisk", "--json", loop))["partitiontable"]["partitions"]
        ]
    assert after["sectorsize"] == 4096
    assert after["id"] == before["id"]
    starts = [entry["start"] * 4096 for entry in after["partitions"]]
    for index, (old, new) in enumerate(zip(before["partitions"], after["partitions"], strict=True)):
        changed = {"node", "start", "size"}
        assert {key: old[key] for key in old if key not in changed} == {
            key: new[key] for key in new if key not in changed
        }
        moved = starts[index] - old["start"] * 4096
        assert moved % (4 * MIB) == 0
        assert 0 <= moved <= delta
        assert new["size"] * 4096 == (8 * MIB + delta if index + 1 == number else 8 * MIB)
        if index + 1 != number:
            with path.open("rb") as file:
                file.seek(starts[index])
                assert file.read(2000).startswith(b"%d" % (old["start"] // 256) * 1000)
    run_tool("e2fsck", "-fn", f"{path}?offset={offset}")


def test_a_block_device_grows_inside_only(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", table=PartitionTable.GPT, sizes=SMALL)
    os.truncate(image.path, image.path.stat().st_size + 100 * MIB + 512)
    with attached(image.path, "--partscan") as loop:
        with FileDevice(Path(loop), writable=True) as disk:
            assert disk.is_block_device
            size = disk.size
            part = growing(disk, "resin-state", tmp_path)
            part.make_space(Space(40 * MIB // 4096, 0))
            part.shrink_to_fit(0, 8 * MIB)
            assert disk.size == size
            grown = part.partition
            with pytest.raises(DiskImageError, match=r"is a block device of \d+ bytes.*are missing.*use a larger one"):
                part.make_space(Space(400 * MIB // 4096, 0))
            table = read_table(disk)
            assert grown in table.partitions
        run_tool("losetup", "--set-capacity", loop)
        assert "No problems found" in run_tool("sgdisk", "-v", loop)
    for item in table.partitions[1:]:
        run_tool("e2fsck", "-fn", f"{image.path}?offset={item.start}")
