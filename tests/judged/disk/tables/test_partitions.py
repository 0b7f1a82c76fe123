"""Partition tables: what sfdisk made is read as sfdisk reads it, and what is damaged is refused by our own errors only."""

import json
import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from drypoint.disk.device import FileDevice
from drypoint.disk.filesystem_info import FilesystemKind
from drypoint.disk.tables.gpt import GptEntry, GptHeader, pack_entry
from drypoint.disk.tables.mbr import chs_address
from drypoint.disk.tables.partitions import PartitionKind, PartitionTable, find_partition
from drypoint.disk.tables.table_reading import read_table
from drypoint.errors import DrypointError, PartitionTableError

MIB = 1 << 20

BALENA_MBR = """label: dos
label-id: 0x12345678
start=8192, size=81920, type=e, bootable
start=90112, size=40960, type=83
start=131072, size=40960, type=83
start=172032, size=233472, type=f
start=180224, size=40960, type=83
start=229376, size=176128, type=83
"""

BALENA_GPT = """label: gpt
label-id: 0F5A0000-1111-2222-3333-444455556666
start=8192, size=16384, type=uefi, name="resin-boot", uuid=0F5A0000-0000-0000-0000-000000000001
start=24576, size=16384, name="resin-rootA", attrs="LegacyBIOSBootable GUID:48", uuid=0F5A0000-0000-0000-0000-000000000002
start=40960, size=16384, type=linux, name="rëšin-dåta", uuid=0F5A0000-0000-0000-0000-000000000005
"""


def sfdisk(path: Path, script: str, size: int) -> None:
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
    subprocess.run(["/usr/sbin/sfdisk", "-q", str(path)], input=script.encode(), check=True, capture_output=True)


def sfdisk_json(path: Path) -> dict[str, object]:
    output = subprocess.run(["/usr/sbin/sfdisk", "--json", str(path)], check=True, capture_output=True).stdout
    table = json.loads(output)["partitiontable"]
    assert isinstance(table, dict)
    return table


def read(path: Path) -> PartitionTable:
    with FileDevice(path) as device:
        return read_table(device)


def patch(path: Path, offset: int, data: bytes | bytearray) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def assert_as_sfdisk(path: Path) -> None:
    expected = sfdisk_json(path)["partitions"]
    assert isinstance(expected, list)
    found = read(path)
    assert len(found.partitions) == len(expected)
    for partition, other in zip(found.partitions, expected, strict=True):
        assert f"{path}{partition.number}" == other["node"]
        assert (partition.start, partition.size) == (other["start"] * 512, other["size"] * 512)
        if partition.kind is PartitionKind.GPT:
            assert partition.type.upper() == other["type"]
            assert partition.guid.upper() == other["uuid"]
            assert partition.name == other.get("name", "")
        else:
            assert int(partition.type, 16) == int(other["type"], 16)
            assert partition.bootable == other.get("bootable", False)


@pytest.fixture
def mbr(tmp_path: Path) -> Path:
    path = tmp_path / "mbr.img"
    sfdisk(path, BALENA_MBR, 200 * MIB)
    return path


@pytest.fixture
def gpt(tmp_path: Path) -> Path:
    path = tmp_path / "gpt.img"
    sfdisk(path, BALENA_GPT, 32 * MIB)
    return path


def test_mbr_with_logical_partitions_is_read_as_sfdisk_reads_it(mbr: Path) -> None:
    assert_as_sfdisk(mbr)
    kinds = [partition.kind.value for partition in read(mbr).partitions]
    assert kinds == ["primary", "primary", "primary", "extended", "logical", "logical"]


@pytest.mark.parametrize("container", ["5", "f", "85"])
def test_each_type_of_extended_partition(tmp_path: Path, container: str) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, BALENA_MBR.replace("type=f\n", f"type={container}\n"), 200 * MIB)
    assert_as_sfdisk(path)


def test_gpt_is_read_as_sfdisk_reads_it(gpt: Path) -> None:
    assert_as_sfdisk(gpt)
    table = read(gpt)
    assert table.notes == ()
    assert table.disk_id == "0f5a0000-1111-2222-3333-444455556666"
    assert table.partitions[1].attributes == 1 << 2 | 1 << 48


def test_a_partition_table_without_all_numbers(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, "label: gpt\n3: start=8192, size=2048\n127: start=4096, size=2048, name=x\n", 32 * MIB)
    assert_as_sfdisk(path)
    assert [partition.number for partition in read(path).partitions] == [3, 127]


def gpt_4096(path: Path, size: int) -> None:
    """A GPT of 4,096-byte sectors; sfdisk and sgdisk make such ones only on a device that has them."""
    last = size // 4096 - 1
    entries = [
        GptEntry(
            index=index,
            partition_type_guid=UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"),
            unique_partition_guid=UUID(int=index + 1),
            first_lba=1024 * (index + 1),
            last_lba=1024 * (index + 2) - 1,
            attributes=0,
            partition_name=f"part{index}",
        )
        for index in range(2)
    ]
    array = b"".join(map(pack_entry, entries)).ljust(128 * 128, b"\0")
    header = GptHeader(0x10000, 92, 1, last, 6, last - 5, UUID(int=99), 2, 128, 128, zlib.crc32(array))
    protective = bytearray(512)
    protective[446:462] = struct.pack("<B3sB3sII", 0, b"\0\x02\0", 0xEE, b"\xff" * 3, 1, last)
    protective[510:] = b"\x55\xaa"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
    patch(path, 0, protective)
    patch(path, 4096, header.pack(4096))
    patch(path, 2 * 4096, array)
    backup = replace(header, my_lba=last, alternate_lba=1, partition_entry_lba=last - 4)
    patch(path, (last - 4) * 4096, array)
    patch(path, last * 4096, backup.pack(4096))


def test_gpt_of_4096_byte_sectors(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    gpt_4096(path, 16 * MIB)
    table = read(path)
    assert (table.sector_size, table.notes) == (4096, ())
    assert [(item.number, item.start, item.size, item.name) for item in table.partitions] == [
        (1, 4 * MIB, 4 * MIB, "part0"),
        (2, 8 * MIB, 4 * MIB, "part1"),
    ]


@pytest.mark.parametrize("offset", [512, 512 + 20, 512 + 88, 2 * 512, 33 * 512])
def test_a_damaged_primary_gpt_is_told_and_its_backup_used(gpt: Path, offset: int) -> None:
    sound = read(gpt)
    patch(gpt, offset, b"\xa5")
    table = read(gpt)
    assert table.partitions == sound.partitions
    assert "primary" in table.notes[0]
    assert "backup is used" in table.notes[0]


def test_a_damaged_backup_gpt_is_told(gpt: Path) -> None:
    patch(gpt, 32 * MIB - 512, bytes(512))
    assert "backup" in read(gpt).notes[0]


def test_both_gpts_damaged(gpt: Path) -> None:
    patch(gpt, 512 + 30, b"\xa5")
    patch(gpt, 32 * MIB - 512 + 30, b"\xa5")
    with pytest.raises(PartitionTableError, match=r"both copies.*primary .*CRC32.*backup .*CRC32"):
        read(gpt)


def test_gpt_copies_that_differ_are_told(gpt: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    sfdisk(other, BALENA_GPT.replace("resin-boot", "resin-boat"), 32 * MIB)
    tail = other.read_bytes()[-33 * 512 :]
    patch(gpt, 32 * MIB - len(tail), tail)
    assert read(gpt).notes == ("the primary and the backup GPT differ; the primary is used",)


def test_hybrid_mbr_is_told(gpt: Path) -> None:
    patch(gpt, 446 + 16, struct.pack("<B3sB3sII", 0, b"\0\0\0", 0x0C, b"\0\0\0", 8192, 16384))
    table = read(gpt)
    assert table.is_hybrid
    assert "hybrid" in table.notes[0]


def entry(start: int, size: int, os_type: int = 0x83) -> bytes:
    return struct.pack("<B3sB3sII", 0, bytes(3), os_type, bytes(3), start, size)


MBR_DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "overlap": (lambda path: patch(path, 446 + 16, entry(90112, 50000)), r"partition 2 .*partition 3 .*overlap"),
    "beyond the end": (lambda path: os.truncate(path, 100 * MIB), r"beyond the end.*cut short"),
    "chain beyond the end": (lambda path: os.truncate(path, 88 * MIB), r"beyond the end.*cut short"),
    "partition on the table": (lambda path: patch(path, 446, entry(0, 81920)), r"starts at byte 0, on the table"),
    "two containers": (lambda path: patch(path, 446, entry(8192, 81920, 5)), r"partitions 1 and 4 are both extended"),
    "chain in a circle": (lambda path: patch(path, 172032 * 512 + 462, entry(0, 9, 5)), r"cycle at sector 172032"),
    "chain leaves its container": (
        lambda path: patch(path, 172032 * 512 + 462, entry(233472, 9, 5)),
        r"points at sector 405504, outside",
    ),
    "unsigned EBR": (lambda path: patch(path, 227328 * 512 + 510, b"\0\0"), r"sector 227328 should end in 55 aa"),
    "two partitions in an EBR": (
        lambda path: patch(path, 227328 * 512 + 462, entry(4096, 9)),
        r"sector 227328 holds 2 partitions",
    ),
    "logical out of container": (
        lambda path: patch(path, 227328 * 512 + 446, entry(2048, 176129)),
        r"logical partition 6 .*extends beyond",
    ),
    "logical on an EBR": (
        lambda path: patch(path, 172032 * 512 + 446, entry(8192, 60000)),
        r"partition 5 .*boot record at sector 227328 .*overlap",
    ),
    "garbage records": (lambda path: patch(path, 446, b"\x7f" * 64), r"no valid partition records"),
    "no signature": (lambda path: patch(path, 510, b"\0\0"), r"no partition table"),
    "empty": (lambda path: patch(path, 446, bytes(64)), r"table is empty"),
    "gzip": (lambda path: patch(path, 0, b"\x1f\x8b\x08".ljust(512, b"\0")), r"gzip-compressed"),
    "too short": (lambda path: os.truncate(path, 1), r"only 1 bytes"),
}


@pytest.mark.parametrize("damage", MBR_DAMAGE)
def test_damaged_mbr_is_refused(mbr: Path, damage: str) -> None:
    spoil, message = MBR_DAMAGE[damage]
    spoil(mbr)
    with pytest.raises(PartitionTableError, match=message):
        read(mbr)


def test_a_chain_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, "label: dos\nstart=2048, size=131072, type=5", 70 * MIB)
    for index in range(130):
        sector = (entry(1, 1) + entry(8 * (index + 1), 8, 5)).rjust(446 + 32, b"\0").ljust(510, b"\0") + b"\x55\xaa"
        patch(path, (2048 + 8 * index) * 512, sector)
    with pytest.raises(PartitionTableError, match="more than 128 members"):
        read(path)


def rewrite_gpt(path: Path, change: Callable[[bytearray, bytearray], None]) -> None:
    """Change header and array of the primary, with right checksums: damage that only a check of the values can find."""
    data = path.read_bytes()
    header, array = bytearray(data[512:604]), bytearray(data[1024 : 1024 + 128 * 128])
    change(header, array)
    header[88:92] = zlib.crc32(array).to_bytes(4, "little")
    header[16:20] = bytes(4)
    header[16:20] = zlib.crc32(header).to_bytes(4, "little")
    patch(path, 512, header)
    patch(path, 1024, array)


def end_far_away(header: bytearray, array: bytearray) -> None:
    set_u64(header, 48, 1 << 40)
    set_u64(array, 256 + 40, 1 << 39)


def set_u64(data: bytearray, offset: int, value: int) -> None:
    data[offset : offset + 8] = value.to_bytes(8, "little")


GPT_DAMAGE: dict[str, tuple[Callable[[bytearray, bytearray], None], str]] = {
    "overlap": (lambda _, array: set_u64(array, 40, 24576), "partition 1 .*partition 2 .*overlap"),
    "ends before start": (lambda _, array: set_u64(array, 40, 8000), "ends at sector 8000, before its start 8192"),
    "beyond the usable": (lambda _, array: set_u64(array, 256 + 40, 65510), "outside the usable"),
    "below the usable": (lambda _, array: set_u64(array, 32, 33), "outside the usable"),
    "beyond the file": (end_far_away, "beyond the end of the file"),
}


@pytest.mark.parametrize("damage", GPT_DAMAGE)
def test_damaged_gpt_is_refused(gpt: Path, damage: str) -> None:
    change, message = GPT_DAMAGE[damage]
    rewrite_gpt(gpt, change)
    with pytest.raises(PartitionTableError, match=message):
        read(gpt)


def test_too_many_gpt_entries_make_a_copy_unusable(gpt: Path) -> None:
    rewrite_gpt(gpt, lambda header, _: header.__setitem__(slice(80, 84), (1025).to_bytes(4, "little")))
    assert "1025 entries" in read(gpt).notes[0]


def test_a_gpt_cut_short(gpt: Path) -> None:
    with gpt.open("r+b") as file:
        file.truncate(25 * MIB)
    with pytest.raises(PartitionTableError, match="beyond the end of the file"):
        read(gpt)


def test_protective_mbr_alone(gpt: Path) -> None:
    patch(gpt, 512, bytes(512))
    patch(gpt, 32 * MIB - 512, bytes(512))
    with pytest.raises(PartitionTableError, match="neither its header nor its backup"):
        read(gpt)


def mkfs(path: Path, label: str, offset: int = 0, size_kib: int = 8192) -> None:
    command = ["/usr/sbin/mkfs.ext4", "-q", "-F", "-L", label, "-E", f"offset={offset}", str(path), f"{size_kib}k"]
    subprocess.run(command, check=True, capture_output=True)


def test_a_bare_ext4_is_partition_0(tmp_path: Path) -> None:
    path = tmp_path / "bare.img"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(8 * MIB)
    mkfs(path, "resin-data")
    with FileDevice(path) as device:
        table = read_table(device)
        found = find_partition(device, table, "resin-data")
        assert find_partition(device, table, 0) == found
    assert (found.partition.number, found.partition.kind, found.partition.size) == (0, PartitionKind.WHOLE, 8 * MIB)
    with path.open("r+b") as file:
        file.truncate(4 * MIB)
    with pytest.raises(PartitionTableError, match="cut short"):
        read(path)


def test_a_bare_fat_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "fat.img"
    subprocess.run(["mformat", "-C", "-i", str(path), "-T", "8192", "::"], check=True)
    with pytest.raises(PartitionTableError, match="bare FAT12 file system"):
        read(path)


def test_partitions_are_found_by_label_name_and_number(mbr: Path, gpt: Path) -> None:
    mkfs(mbr, "resin-state", 180224 * 512)
    mkfs(mbr, "resin-data", 229376 * 512)
    with FileDevice(mbr) as device:
        table = read_table(device)
        found = find_partition(device, table, "resin-data")
        assert found.partition.number == 6
        assert found.filesystem is not None
        assert found.filesystem.kind is FilesystemKind.EXT4
        assert find_partition(device, table, 6) == find_partition(device, table, "6") == found
        with pytest.raises(PartitionTableError, match="not by an empty text"):
            find_partition(device, table, "")
        with pytest.raises(
            PartitionTableError, match=r"label 'data'; there are .*5 'resin-state' \(ext4\), 6 'resin-data'"
        ):
            find_partition(device, table, "data")
        with pytest.raises(PartitionTableError, match=r"number 7; there are"):
            find_partition(device, table, 7)
        with pytest.raises(PartitionTableError, match=r"partition 4 is the extended partition"):
            find_partition(device, table, 4)
    mkfs(mbr, "resin-data", 180224 * 512)
    with FileDevice(mbr) as device, pytest.raises(PartitionTableError, match=r"partitions 5 and 6 both have"):
        find_partition(device, read_table(device), "resin-data")
    with FileDevice(gpt) as device:
        assert find_partition(device, read_table(device), "resin-rootA").partition.number == 2


def test_chs_addresses() -> None:
    assert chs_address(8192) == bytes.fromhex("820300")
    assert chs_address(405503) == bytes.fromhex("3d2419")
    assert chs_address(1024 * 255 * 63) == b"\xfe\xff\xff"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    """Small tables, so that a mutation often meets something: an MBR with logical partitions, and a GPT."""
    directory = tmp_path_factory.mktemp("seeds")
    small = directory / "mbr.img"
    sfdisk(small, "label: dos\n4,4,83\n8,24,5\n12,4,83\n20,4,83\n28,4,83\n", 64 * 512)
    table = directory / "gpt.img"
    sfdisk(table, "label: gpt\nstart=40,size=8\nstart=48,size=8\n", 160 * 512)
    return directory / "mutated.img", small.read_bytes(), table.read_bytes()


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutations_raise_only_our_errors(seeds: tuple[Path, bytes, bytes], data: st.DataObject) -> None:
    path, small, table = seeds
    image = bytearray(data.draw(st.sampled_from([small, table])))
    is_gpt = len(image) > 64 * 512
    places = (
        st.integers(0, 3 * 512)
        if is_gpt
        else st.sampled_from([0, 8, 16, 24]).flatmap(lambda sector: st.integers(sector * 512 + 446, sector * 512 + 511))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        offset = data.draw(places)
        chunk = data.draw(st.binary(min_size=1, max_size=8))
        image[offset : offset + len(chunk)] = chunk
    if is_gpt and data.draw(st.booleans()):
        image[512 + 16 : 512 + 20] = bytes(4)
        image[512 + 16 : 512 + 20] = zlib.crc32(image[512:604]).to_bytes(4, "little")
    path.write_bytes(bytes(image[: data.draw(st.integers(0, len(image)))] if data.draw(st.booleans()) else image))
    try:
        found = read(path)
    except DrypointError:
        return
    assert all(partition.end <= path.stat().st_size for partition in found.partitions)
