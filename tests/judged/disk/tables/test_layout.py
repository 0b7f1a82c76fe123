"""Partitions that grow wherever they lie: sfdisk makes the layout before and the one expected; both images must be equal."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from drypoint.disk.device import FileDevice
from drypoint.disk.tables import moving
from drypoint.disk.tables.gpt import REVISION, GptEntry, GptHeader, pack_entry
from drypoint.disk.tables.growth import ALIGNMENT, apply_growth, apply_shrink, plan_growth, plan_shrink
from drypoint.disk.tables.partitions import Partition, PartitionKind, PartitionTable
from drypoint.disk.tables.table_reading import read_table
from drypoint.errors import DiskImageError, PartitionTableError

pytestmark = pytest.mark.needs("sfdisk", "sgdisk", "mkfs.ext4", "e2fsck")

MIB = 1 << 20
SFDISK, SGDISK = "/usr/sbin/sfdisk", "/usr/sbin/sgdisk"


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout of *lines* (start and size in MiB, and the rest of sfdisk's line), of which partition *number* grows.

    It gets *new* MiB, and *expected* is what sfdisk is told for the result; *size* and *expected_size* are the disk's.
    """

    number: int
    new: int
    lines: tuple[tuple[float, float, str], ...]
    size: int
    expected: tuple[tuple[float, float, str], ...]
    expected_size: int
    label: str = "dos"


GUIDS = [f'uuid=0F5A0000-1111-4222-8333-00000000000{number}, name="{name}", attrs="GUID:{number},48,63"' for number, name in
         enumerate(("resin-boot", "rootA", "résin-dätå", "state", "x" * 36))]  # fmt: skip
ODD = "type=DEADBEEF-0000-1111-2222-123456789ABC"

LAYOUTS = {
    "a logical before other logicals": Layout(
        5, 12,
        ((4, 4, "type=c, bootable"), (8, 28, "type=f"), (12, 4, "type=83"), (20, 4, "type=83"), (28, 4, "type=82")), 36,
        ((4, 4, "type=c, bootable"), (8, 36, "type=f"), (12, 12, "type=83"), (28, 4, "type=83"), (36, 4, "type=82")), 44,
    ),
    "a logical in the middle": Layout(
        6, 60,
        ((4, 4, "type=c"), (8, 28, "type=5"), (12, 4, "type=83"), (20, 4, "type=83"), (28, 4, "type=82")), 36,
        ((4, 4, "type=c"), (8, 84, "type=5"), (12, 4, "type=83"), (20, 60, "type=83"), (84, 4, "type=82")), 92,
    ),
    "a logical, and a primary behind the extended partition": Layout(
        6, 8,
        ((4, 4, "type=c"), (8, 16, "type=5"), (24, 4, "type=83, bootable"), (12, 4, "type=83"), (20, 4, "type=83")), 28,
        ((4, 4, "type=c"), (8, 20, "type=5"), (28, 4, "type=83, bootable"), (12, 4, "type=83"), (20, 8, "type=83")), 32,
    ),
    "a logical, with room in the extended partition": Layout(
        6, 8,
        ((4, 4, "type=c"), (8, 24, "type=5"), (32, 4, "type=83"), (12, 4, "type=83"), (20, 4, "type=83")), 36,
        ((4, 4, "type=c"), (8, 24, "type=5"), (32, 4, "type=83"), (12, 4, "type=83"), (20, 8, "type=83")), 36,
    ),
    "a logical, with too little room in the extended partition": Layout(
        6, 24,
        ((4, 4, "type=c"), (8, 20, "type=5"), (32, 4, "type=83"), (12, 4, "type=83"), (20, 4, "type=83")), 36,
        ((4, 4, "type=c"), (8, 36, "type=5"), (44, 4, "type=83"), (12, 4, "type=83"), (20, 24, "type=83")), 48,
    ),
    "a primary before an extended partition": Layout(
        2, 20,
        ((4, 4, "type=c"), (8, 4, "type=83"), (12, 16, "type=f"), (16, 4, "type=83"), (24, 4, "type=83")), 28,
        ((4, 4, "type=c"), (8, 20, "type=83"), (28, 16, "type=f"), (32, 4, "type=83"), (40, 4, "type=83")), 44,
    ),
    "the first primary, among others out of order": Layout(
        2, 9,
        ((12, 4, "type=c"), (4, 4, "type=83"), (24, 8, "type=82"), (16, 8, "type=83")), 32,
        ((16, 4, "type=c"), (4, 12, "type=83"), (28, 8, "type=82"), (20, 8, "type=83")), 36,
    ),
    "a primary into a gap": Layout(
        1, 10,
        ((4, 4, "type=83"), (20, 4, "type=83")), 24,
        ((4, 12, "type=83"), (20, 4, "type=83")), 24,
    ),
    "a primary over a gap": Layout(
        1, 32,
        ((4, 4, "type=83"), (20, 4, "type=83")), 64,
        ((4, 32, "type=83"), (36, 4, "type=83")), 64,
    ),
    "neighbours that are not aligned": Layout(
        1, 8,
        ((1, 3, "type=83"), (4.0625, 2.5, "type=83"), (7, 1, "type=83")), 8,
        ((1, 11, "type=83"), (12.0625, 2.5, "type=83"), (15, 1, "type=83")), 16,
    ),
    "in the middle of a GPT": Layout(
        3, 21,
        ((4, 4, f"type=uefi, {GUIDS[0]}"), (8, 4, f"type=linux, {GUIDS[1]}"), (12, 4, f"type=linux, {GUIDS[2]}"),
         (16, 4, f"{ODD}, {GUIDS[3]}"), (20, 4, f"{ODD}, {GUIDS[4]}")), 25,
        ((4, 4, f"type=uefi, {GUIDS[0]}"), (8, 4, f"type=linux, {GUIDS[1]}"), (12, 24, f"type=linux, {GUIDS[2]}"),
         (36, 4, f"{ODD}, {GUIDS[3]}"), (40, 4, f"{ODD}, {GUIDS[4]}")), 45,
        "gpt",
    ),
    "in a GPT, with room at the end of the disk": Layout(
        1, 16,
        ((4, 4, f"type=linux, {GUIDS[0]}"), (12, 4, f"type=linux, {GUIDS[1]}")), 64,
        ((4, 16, f"type=linux, {GUIDS[0]}"), (20, 4, f"type=linux, {GUIDS[1]}")), 64,
        "gpt",
    ),
    "first in a GPT, out of order": Layout(
        3, 8,
        ((16, 4, f"type=linux, {GUIDS[0]}"), (8, 8, f"type=linux, {GUIDS[1]}"), (4, 4, f"type=linux, {GUIDS[2]}")), 21,
        ((20, 4, f"type=linux, {GUIDS[0]}"), (12, 8, f"type=linux, {GUIDS[1]}"), (4, 8, f"type=linux, {GUIDS[2]}")), 25,
        "gpt",
    ),
}  # fmt: skip


def partition_disk(path: Path, label: str, lines: tuple[tuple[float, float, str], ...], size: int) -> None:
    path.touch()
    os.truncate(path, size * MIB)
    ident = "0x12345678" if label == "dos" else "0F5A0000-1111-2222-3333-444455556666"
    script = f"label: {label}\nlabel-id: {ident}\n"
    script += "".join(
        f"start={int(start * 2048)}, size={int(length * 2048)}, {rest}\n" for start, length, rest in lines
    )
    subprocess.run([SFDISK, "-q", str(path)], input=script.encode(), check=True, capture_output=True)


def fill(path: Path, lengths: dict[int, int]) -> None:
    """Recognisable content in every partition but the extended one, in its first *lengths* bytes, some of it holes."""
    for item in read(path).partitions:
        if item.kind is PartitionKind.EXTENDED:
            continue
        noise = random.Random(item.number)
        length = lengths[item.number]
        with path.open("r+b") as file:
            for offset in (0, length // 3 // 512 * 512, length - 5000):
                file.seek(item.start + offset)
                file.write(noise.randbytes(5000))


def read(path: Path) -> PartitionTable:
    with FileDevice(path) as device:
        return read_table(device)


def judge(path: Path) -> dict[str, object]:
    """The table as sfdisk reads it, after sfdisk (and for a GPT sgdisk) found nothing wrong."""
    verdict = subprocess.run([SFDISK, "--verify", str(path)], capture_output=True, text=True, check=False)
    assert verdict.returncode == 0, verdict
    assert "No errors detected" in verdict.stdout, verdict
    told: dict[str, dict[str, object]] = json.loads(
        subprocess.run([SFDISK, "--json", str(path)], check=True, capture_output=True).stdout
    )
    table = told["partitiontable"]
    if table["label"] == "gpt":
        verdict = subprocess.run([SGDISK, "-v", str(path)], capture_output=True, text=True, check=False)
        assert "No problems found" in verdict.stdout, verdict
        assert verdict.stderr == "", verdict
    del table["device"]
    partitions = table["partitions"]
    assert isinstance(partitions, list)
    for partition in partitions:
        partition["node"] = partition["node"].removeprefix(str(path))
    return table


def grow(path: Path, number: int, new_size: int) -> Partition:
    with FileDevice(path, writable=True) as device:
        table = read_table(device)
        partition = next(item for item in table.partitions if item.number == number)
        plan = plan_growth(table, device.size, partition, new_size)
        apply_growth(device, plan)
        return plan.partition


def shrink(path: Path, number: int, new_size: int, least_device_size: int = 0) -> Partition:
    with FileDevice(path, writable=True) as device:
        table = read_table(device)
        partition = next(item for item in table.partitions if item.number == number)
        plan = plan_shrink(table, device.size, partition, new_size, least_device_size)
        apply_shrink(device, plan)
        return plan.partition


@pytest.fixture(params=["blocks", "copying"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "copying":
        monkeypatch.setattr(moving, "insert_range", lambda *_: False)
        monkeypatch.setattr(moving, "collapse_range", lambda *_: False)
    return str(request.param)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_result_is_what_sfdisk_makes(tmp_path: Path, name: str, way: str) -> None:
    layout = LAYOUTS[name]
    path, expected = tmp_path / "disk.img", tmp_path / "expected.img"
    partition_disk(path, layout.label, layout.lines, layout.size)
    lengths = {item.number: item.size for item in read(path).partitions}
    partition_disk(expected, layout.label, layout.expected, layout.expected_size)
    fill(path, lengths)
    fill(expected, lengths)
    before = path.read_bytes()
    judge(path)
    grown = grow(path, layout.number, layout.new * MIB)
    assert grown.size >= layout.new * MIB
    assert grown.end % ALIGNMENT == 0
    assert judge(path) == judge(expected)
    assert path.read_bytes() == expected.read_bytes()
    if layout.size < layout.expected_size:
        shrink(path, layout.number, lengths[layout.number], len(before))
        again = judge(path)
        assert path.stat().st_size == len(before)
        assert [item["start"] for item in listed(again)] == [item.start // 512 for item in read(path).partitions]
        # Ends that were not aligned, and room between partitions that was used up, do not come back; all else does.
        if "room" not in name and "order" not in name and "aligned" not in name:
            assert path.read_bytes() == before


def listed(table: dict[str, object]) -> list[dict[str, object]]:
    found = table["partitions"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    "name", ["a logical in the middle", "a primary before an extended partition", "in the middle of a GPT"]
)
def test_growing_twice_is_growing_once(tmp_path: Path, name: str, way: str) -> None:
    layout = LAYOUTS[name]
    once, twice = tmp_path / "once.img", tmp_path / "twice.img"
    for path in (once, twice):
        partition_disk(path, layout.label, layout.lines, layout.size)
        fill(path, {item.number: item.size for item in read(path).partitions})
    old = next(item.size for item in read(once).partitions if item.number == layout.number)
    grow(once, layout.number, old + 64 * MIB)
    for step in (5, 31, 64):
        grow(twice, layout.number, old + step * MIB)
        judge(twice)
    assert once.read_bytes() == twice.read_bytes()


def test_file_systems_behind_move_whole(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    layout = LAYOUTS["a logical before other logicals"]
    partition_disk(path, layout.label, layout.lines, layout.size)
    places = [item for item in read(path).partitions if item.kind is PartitionKind.LOGICAL]
    for item in places:
        options = ["-q", "-F", "-E", f"offset={item.start}", str(path), f"{item.size >> 10}k"]
        subprocess.run(["/usr/sbin/mkfs.ext4", *options], check=True, capture_output=True)
    contents = {item.number: bytes_of(path, item) for item in places}
    grow(path, 5, 400 * MIB)
    for item in read(path).partitions:
        if item.kind is PartitionKind.LOGICAL:
            assert bytes_of(path, item)[: len(contents[item.number])] == contents[item.number]
            verdict = subprocess.run(
                ["/usr/sbin/e2fsck", "-fn", f"{path}?offset={item.start}"], capture_output=True, check=False
            )
            assert verdict.returncode == 0, verdict
    assert path.stat().st_blocks * 512 < 40 * MIB


def bytes_of(path: Path, partition: Partition) -> bytes:
    with path.open("rb") as file:
        file.seek(partition.start)
        return file.read(min(partition.size, 64 * MIB))


def test_boot_records_out_of_order(tmp_path: Path) -> None:
    """The chain need not go upwards: here partition 5 lies behind 6, and its record between 6 and 7's."""
    path = tmp_path / "disk.img"
    lines = (
        (4, 4, "type=c"),
        (8, 40, "type=f"),
        (28, 4, "type=83"),
        (12, 4, "type=83"),
        (36, 4, "type=83"),
        (20, 4, "type=82"),
    )
    partition_disk(path, "dos", lines, 48)
    fill(path, {item.number: item.size for item in read(path).partitions})
    before = {item.number: item for item in read(path).partitions}
    contents = {number: bytes_of(path, item) for number, item in before.items()}
    number = next(item.number for item in before.values() if item.start == 12 * MIB)
    grow(path, number, 32 * MIB)
    judge(path)
    for item in read(path).partitions:
        delta = 0 if before[item.number].start <= 12 * MIB else 28 * MIB
        assert item.start == before[item.number].start + delta
        if item.kind is not PartitionKind.EXTENDED and item.number != number:
            assert item == replace(before[item.number], start=item.start)
            assert bytes_of(path, item) == contents[item.number]


@pytest.mark.parametrize(
    "adjust", [["-S", "256"], ["-S", "512"], ["-j", "1024"], ["-j", "100", "-S", "200"]], ids=" ".join
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_gpt_with_another_array(tmp_path: Path, adjust: list[str], number: int) -> None:
    path = tmp_path / "disk.img"
    partition_disk(path, "gpt", ((4, 4, f"type=linux, {GUIDS[2]}"), (8, 4, f"{ODD}, {GUIDS[4]}")), 13)
    subprocess.run([SGDISK, *adjust, str(path)], check=True, capture_output=True)
    fill(path, {1: 4 * MIB, 2: 4 * MIB})
    before, table = judge(path), read(path)
    kept = bytes_of(path, table.partitions[2 - number])
    grow(path, number, 50 * MIB)
    after = judge(path)
    for key in ("id", "firstlba", "label", "table-length", "sectorsize"):
        assert before.get(key) == after.get(key)
    assert subprocess.run([SGDISK, "-p", str(path)], check=True, capture_output=True, text=True).stdout.count("\n") > 5
    other = read(path).partitions[2 - number]
    assert bytes_of(path, other)[: 4 * MIB] == kept[: 4 * MIB]
    for old, new in zip(listed(before), listed(after), strict=True):
        changed = {"start", "size"}
        assert {key: old[key] for key in old if key not in changed} == {
            key: new[key] for key in new if key not in changed
        }
    shrink(path, number, 4 * MIB, 13 * MIB)
    # sgdisk -j keeps more room at the end than it needs.
    again = judge(path)
    assert {**again, "lastlba": 0} == {**before, "lastlba": 0}


def test_a_hybrid_mbr_is_refused_for_trimming_too(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    partition_disk(path, "gpt", ((4, 12, f"type=linux, {GUIDS[2]}"),), 17)
    with path.open("r+b") as file:
        file.seek(446 + 16)
        file.write(struct.pack("<B3sB3sII", 0, b"\0\0\0", 0x0C, b"\0\0\0", 8192, 8192))
    with pytest.raises(DiskImageError, match="hybrid"):
        shrink(path, 1, 4 * MIB)


def test_trimming_keeps_what_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    partition_disk(path, "gpt", ((4, 60, f"type=linux, {GUIDS[2]}"), (64, 4, f"type=linux, {GUIDS[3]}")), 69)
    before = path.read_bytes()
    # The disk image keeps its size, or so much of it that not one unit can go.
    for least in (69, 68, 66):
        assert shrink(path, 1, 4 * MIB, least * MIB).size == 60 * MIB
        assert path.read_bytes() == before
    assert shrink(path, 1, 59 * MIB).size == 60 * MIB
    assert path.read_bytes() == before
    assert shrink(path, 1, 30 * MIB + 1, 50 * MIB).size == 44 * MIB
    assert path.stat().st_size == 53 * MIB
    judge(path)


def test_what_lies_behind_must_not_leave_the_reach_of_an_mbr(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    partition_disk(path, "dos", ((4, 4, "type=83"), (8, 40, "type=83")), 48)
    with pytest.raises(PartitionTableError, match=r"partition 2 would end at byte .* an MBR only reaches 2 TiB"):
        grow(path, 1, (2 << 40) - 20 * MIB)


Maker = Callable[[Path, list[tuple[int, int, int]]], None]


def make_mbr(path: Path, parts: list[tuple[int, int, int]]) -> None:
    """Up to three primaries, then logicals in a container; *parts* are (gap, length, type) in MiB, the first gap 4 at least."""
    sectors: dict[int, bytearray] = {0: bytearray(512)}
    at, slot = 0, 0
    container: int | None = None
    previous: int | None = None
    last = 0
    for index, (gap, length, kind) in enumerate(parts):
        start = at + max(gap, 1) * 2048
        if index < 2:
            struct.pack_into("<B3xB3xII", sectors[0], 446 + 16 * slot, 0, kind, start, length * 2048)
            slot += 1
        else:
            ebr = at
            if container is None:
                container = ebr
            sectors[ebr] = bytearray(512)
            struct.pack_into("<B3xB3xII", sectors[ebr], 446, 0, kind, start - ebr, length * 2048)
            if previous is not None:
                link = (0, 5, ebr - container, start - ebr + length * 2048)
                struct.pack_into("<B3xB3xII", sectors[previous], 462, *link)
            previous = ebr
        at = last = start + length * 2048
    if container is not None:
        struct.pack_into("<B3xB3xII", sectors[0], 446 + 16 * slot, 0, 5, container, last - container)
    write_disk(path, last * 512, {lba * 512: bytes(sector[:510]) + b"\x55\xaa" for lba, sector in sectors.items()})


def make_gpt(path: Path, parts: list[tuple[int, int, int]], sector_size: int = 512) -> None:
    unit = MIB // sector_size
    at, array, guid = 0, bytearray(128 * 128), UUID(int=7)
    for index, (gap, length, kind) in enumerate(parts):
        start = at + max(gap, 1) * unit
        entry = GptEntry(
            index, UUID(int=kind), UUID(int=index + 100), start, start + length * unit - 1, kind << 48, f"p{index}"
        )
        array[index * 128 : index * 128 + 128] = pack_entry(entry)
        at = start + length * unit
    size, sectors = at * sector_size + MIB, 128 * 128 // sector_size
    last = size // sector_size - 1
    header = GptHeader(REVISION, 92, 1, last, 2 + sectors, last - sectors - 1, guid, 2, 128, 128, zlib.crc32(array))
    backup = replace(header, my_lba=last, alternate_lba=1, partition_entry_lba=last - sectors)
    protective = bytearray(512)
    struct.pack_into("<B3xB3xII", protective, 446, 0, 0xEE, 1, last)
    protective[510:] = b"\x55\xaa"
    write_disk(path, size, {
        0: bytes(protective), sector_size: header.pack(sector_size), 2 * sector_size: bytes(array),
        (last - sectors) * sector_size: bytes(array), last * sector_size: backup.pack(sector_size),
    })  # fmt: skip


def make_gpt_4096(path: Path, parts: list[tuple[int, int, int]]) -> None:
    make_gpt(path, parts, 4096)


def write_disk(path: Path, size: int, pieces: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, piece in pieces.items():
            file.seek(offset)
            file.write(piece)


@settings(max_examples=60, deadline=None)
@given(
    make=st.sampled_from([make_mbr, make_gpt, make_gpt_4096]),
    parts=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 12), st.sampled_from([0x83, 0x0C, 0x82])), min_size=1, max_size=7
    ),
    steps=st.lists(st.integers(1, 40 * MIB), min_size=1, max_size=3),
    data=st.data(),
)
def test_any_layout(
    tmp_path_factory: pytest.TempPathFactory,
    make: Maker,
    parts: list[tuple[int, int, int]],
    steps: list[int],
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("any") / "disk.img"
    make(path, parts)
    table = read(path)
    size = path.stat().st_size
    chosen = data.draw(st.sampled_from([item for item in table.partitions if item.kind is not PartitionKind.EXTENDED]))
    fill(path, {item.number: item.size for item in table.partitions})
    contents = {
        item.number: bytes_of(path, item) for item in table.partitions if item.kind is not PartitionKind.EXTENDED
    }
    now = chosen
    for step in steps:
        before = {item.number: item for item in read(path).partitions}
        wanted = now.size + step
        now = grow(path, chosen.number, wanted)
        assert now == replace(chosen, size=now.size)
        assert now.size >= wanted
        assert now.end % ALIGNMENT == 0
        after = {item.number: item for item in read(path).partitions}
        check_neighbours(before, after, before[chosen.number], now)
    for item in read(path).partitions:
        if item.kind is not PartitionKind.EXTENDED:
            kept = contents[item.number]
            assert bytes_of(path, item) == kept.ljust(min(item.size, 64 * MIB), b"\0")
    assert read(path).notes == ()
    trimmed = shrink(path, chosen.number, chosen.size, size)
    assert path.stat().st_size >= size
    assert trimmed.size >= chosen.size
    for item in read(path).partitions:
        if item.kind is not PartitionKind.EXTENDED:
            assert bytes_of(path, item)[: len(contents[item.number])] == contents[item.number]
    path.unlink()


def check_neighbours(
    before: dict[int, Partition], after: dict[int, Partition], chosen: Partition, grown: Partition
) -> None:
    """Nothing changes but places: those behind move by one multiple of 4 MiB, a container holds what it held."""
    assert before.keys() == after.keys()
    deltas = set()
    for number, old in before.items():
        new = after[number]
        if number == chosen.number:
            continue
        assert replace(new, start=0, size=0) == replace(old, start=0, size=0)
        if old.kind is PartitionKind.EXTENDED and old.start < chosen.end:
            assert new.start == old.start
            if old.start <= chosen.start < old.end:
                assert new.end >= grown.end
        elif old.start >= chosen.end:
            assert new.size == old.size
            deltas.add(new.start - old.start)
        else:
            assert new == old
    assert len(deltas) <= 1
    assert all(delta >= 0 and delta % ALIGNMENT == 0 for delta in deltas)
