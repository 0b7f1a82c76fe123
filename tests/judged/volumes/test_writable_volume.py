"""The data partition as a preload uses it: grown, filled, grown again, and trimmed, judged by sfdisk, sgdisk and e2fsck."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.devices import OpaqueDisk
from tests.support.ext4_images import ask_dumpe2fs

from drypoint.disk import FileDevice, GrowableDevice, Partition, Window, read_table
from drypoint.disk.ext4.resize.geometry import read_geometry
from drypoint.disk.ext4.write.allocation import Shortage
from drypoint.errors import DiskImageError
from drypoint.fstree import Directory, Metadata, Regular
from drypoint.progress import SILENT
from drypoint.sinks.ext4 import Ext4Sink
from drypoint.sizing.space import Space
from drypoint.volumes.partitioned_disk import PartitionedDisk
from drypoint.volumes.writable_volume import WritableVolume

pytestmark = pytest.mark.needs("sfdisk", "sgdisk", "mkfs.ext4", "e2fsck", "resize2fs", "debugfs")

MIB = 1 << 20
LAYOUTS = {
    "mbr, logical, last": ("dos", 6, "4,4,c\n8,4,83\n12,24,f\n16,4,83\n24,12,83\n", 36),
    "mbr, logical, with others behind": ("dos", 5, "4,4,c\n8,32,f\n40,4,83\n12,12,83\n28,4,83\n36,4,83\n", 44),
    "mbr, primary, with an extended behind": ("dos", 2, "4,4,c\n8,12,83\n20,16,5\n24,4,83\n32,4,83\n", 36),
    "gpt, last": ("gpt", 2, "4,4,uefi\n8,12,linux\n", 21),
    "gpt, in the middle": ("gpt", 2, "4,4,uefi\n8,12,linux\n20,4,linux\n24,4,swap\n", 29),
}


def make(path: Path, name: str) -> Partition:
    """A disk image of that layout with an ext4 in the partition to grow, and noise in all others that are none."""
    label, number, lines, size = LAYOUTS[name]
    path.touch()
    os.truncate(path, size * MIB)
    script = f"label: {label}\nlabel-id: {'0x1' if label == 'dos' else '0F5A0000-1111-2222-3333-444455556666'}\n"
    for index, line in enumerate(lines.splitlines()):
        start, length, kind = line.split(",")
        uuid = f", uuid=0F5A0000-1111-2222-3333-00000000000{index}" if label == "gpt" else ""
        script += f"start={int(start) * 2048}, size={int(length) * 2048}, type={kind}{uuid}\n"
    run("sfdisk", "-q", str(path), script=script)
    partitions = partitions_of(path)
    for item in partitions.values():
        if item.number != number and item.type not in ("0x0f", "0x05"):
            with path.open("r+b") as file:
                file.seek(item.start)
                file.write(os.urandom(MIB))
    chosen = partitions[number]
    options = "lazy_itable_init=0,lazy_journal_init=0,hash_seed=0f5a0000-1111-2222-3333-444455556666"
    run(
        "mkfs.ext4", "-q", "-F", "-b", "4096", "-i", "8192", "-E", f"{options},offset={chosen.start}",
        "-U", "0f5a0000-1111-2222-3333-444455556666", str(path), f"{chosen.size >> 10}k",
    )  # fmt: skip
    return chosen


def run(name: str, *arguments: str, script: str | None = None) -> str:
    done = subprocess.run([f"/usr/sbin/{name}", *arguments], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout


def partitions_of(path: Path) -> dict[int, Partition]:
    with FileDevice(path) as device:
        return {item.number: item for item in read_table(device).partitions}


def judge(path: Path, start: int, label: str) -> None:
    assert "No errors detected" in run("sfdisk", "--verify", str(path))
    if label == "gpt":
        assert "No problems found" in run("sgdisk", "-v", str(path))
    run("e2fsck", "-fn", f"{path}?offset={start}")


def free_of(path: Path, start: int) -> int:
    """Bytes that are free beside the reserved ones, as dumpe2fs tells."""
    told = ask_dumpe2fs(path, offset=start)
    return (int(told["Free blocks"]) - int(told["Reserved block count"])) * int(told["Block size"])


def content(path: Path, item: Partition) -> bytes:
    with path.open("rb") as file:
        file.seek(item.start)
        return file.read(item.size)


def growing(disk: GrowableDevice, number: int, directory: Path) -> WritableVolume:
    return WritableVolume(disk, PartitionedDisk(disk).volume(number), directory, SILENT)


def write_file(path: Path, start: int, name: str, size: int) -> None:
    source = path.with_name(name)
    source.write_bytes(os.urandom(size))
    subprocess.run(
        ["/usr/sbin/debugfs", "-w", "-R", f"write {source} {name}", f"{path}?offset={start}"],
        check=True,
        capture_output=True,
    )
    source.unlink()


@pytest.mark.parametrize("name", LAYOUTS)
def test_grown_filled_grown_again_and_trimmed(tmp_path: Path, name: str) -> None:
    label, number, _, size = LAYOUTS[name]
    path = tmp_path / "disk.img"
    chosen = make(path, name)
    base = partitions_of(path)
    others = {item.number: content(path, item) for item in base.values() if item.type not in ("0x0f", "0x05")}
    del others[number]
    with FileDevice(path, writable=True) as disk:
        part = growing(disk, number, tmp_path)
        part.make_space(Space(70 * MIB // 4096, 100))
        judge(path, chosen.start, label)
        assert free_of(path, chosen.start) >= 70 * MIB
        write_file(path, chosen.start, "one", 50 * MIB)
        grown = part.partition
        assert part.on_full(Shortage(30 * MIB // 4096, 0)).size == part.partition.size > grown.size
        judge(path, chosen.start, label)
        write_file(path, chosen.start, "two", 10 * MIB)
        largest = path.stat().st_size
        part.shrink_to_fit(6 * MIB, chosen.size)
        judge(path, chosen.start, label)
        trimmed = part.partition
        assert free_of(path, chosen.start) >= 6 * MIB
        assert chosen.size < trimmed.size < grown.size
        assert size * MIB < path.stat().st_size < largest
        assert trimmed.end % (4 * MIB) == 0
        assert part.window.size == trimmed.size
        # A second time nothing is left to be gained, and nothing changes.
        before = path.stat().st_mtime_ns
        part.make_space(Space(6 * MIB // 4096 + 1, 0))
        assert path.stat().st_mtime_ns == before
    after = partitions_of(path)
    assert after[number] == trimmed
    for other, kept in others.items():
        assert content(path, after[other]) == kept
    delta = path.stat().st_size - size * MIB
    for item in base.values():
        if item.start >= chosen.end:
            assert after[item.number].start == item.start + delta


def fill(window: Window, files: int) -> None:
    with Ext4Sink(window, now=1) as sink:
        sink.add(Directory(b"many", Metadata(0o755)))
        for number in range(files):
            sink.add(Regular(b"many/%d" % number, Metadata(0o644), 1000), (b"x" * 1000,))
        sink.finish()


def test_where_inodes_run_short_there_will_be_enough_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    make(path, "gpt, last")
    with FileDevice(path, writable=True) as disk:
        part = growing(disk, 2, tmp_path)
        # A third of the inodes that a block each will take.
        part.make_space(Space(24_000, 8_000))
        fill(part.window, 8_000)
        free = read_geometry(part.on_full(Shortage(0, 1))).free_inodes
        assert 16_000 <= free <= 26_000, "for what is to come, but not for much more"


def test_small_files_that_all_come_first_are_not_taken_for_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    make(path, "gpt, last")
    with FileDevice(path, writable=True) as disk:
        part = growing(disk, 2, tmp_path)
        part.make_space(Space(200_000, 3_000))
        fill(part.window, 2_000)
        free = read_geometry(part.window).free_inodes
        grown = read_geometry(part.on_full(Shortage(0, 1))).free_inodes
        step = part.partition.size // 4 // 8192
        assert free < grown <= free + 2 * step, "200,000 more would make the disk image four times as large"


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    name = "gpt, in the middle"
    results = []
    make(tmp_path / "base.img", name)
    for way in ("one", "two"):
        (tmp_path / way).mkdir()
        path = tmp_path / way / "disk.img"
        path.write_bytes((tmp_path / "base.img").read_bytes())
        with FileDevice(path, writable=True) as disk:
            part = growing(disk if way == "one" else OpaqueDisk(disk), 2, tmp_path)
            part.make_space(Space(70 * MIB // 4096, 100))
            part.on_full(Shortage(1, 0))
            part.shrink_to_fit(MIB, part.partition.size - 60 * MIB)
        results.append(path.read_bytes())
    assert results[0] == results[1]


def test_nothing_grown_nothing_trimmed(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    chosen = make(path, "gpt, last")
    before = path.read_bytes()
    with FileDevice(path, writable=True) as disk:
        part = growing(disk, 2, tmp_path)
        part.shrink_to_fit(0, chosen.size)
        # Even if the partition might: the disk image was not larger before.
        part.shrink_to_fit(0, 4 * MIB)
    assert path.read_bytes() == before


def test_what_grew_for_nothing_goes_back_to_the_base(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    chosen = make(path, "mbr, logical, with others behind")
    size = path.stat().st_size
    tables = path.read_bytes()[: chosen.start]
    with FileDevice(path, writable=True) as disk:
        part = growing(disk, 5, tmp_path)
        part.make_space(Space(300 * MIB // 4096, 100))
        part.shrink_to_fit(0, chosen.size)
        assert part.partition == chosen
    assert path.stat().st_size == size
    assert path.read_bytes()[: chosen.start] == tables
    judge(path, chosen.start, "dos")


class Fixed:
    """A device of one size, which says so as a block device does."""

    def __init__(self, device: FileDevice) -> None:
        self._device = device

    def __getattr__(self, name: str) -> object:
        if name == "truncate":
            raise AttributeError(name)
        return getattr(self._device, name)


def test_a_device_that_cannot_be_cut_stays(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    chosen = make(path, "gpt, last")
    with FileDevice(path, writable=True) as disk:
        fixed: GrowableDevice = Fixed(disk)  # type: ignore[assignment]
        part = growing(fixed, 2, tmp_path)
        part.make_space(Space(70 * MIB // 4096, 100))
        size = part.partition.size
        part.shrink_to_fit(0, chosen.size)
        assert part.partition.size == size


def test_no_room_to_grow_is_an_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.img"
    make(path, "gpt, last")
    with FileDevice(path, writable=True) as disk:
        monkeypatch.setattr(FileDevice, "is_block_device", property(lambda _: True))
        before = path.read_bytes()
        with pytest.raises(
            DiskImageError, match=r"is a block device of 22020096 bytes, but \d+ are needed: \d+ are missing"
        ):
            growing(disk, 2, tmp_path).make_space(Space(70 * MIB // 4096, 100))
        assert path.read_bytes() == before
