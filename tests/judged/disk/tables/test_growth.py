"""Growth of partitions: the grown table is the one that sfdisk would have made for the larger disk, byte for byte."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from drypoint.disk.device import FileDevice
from drypoint.disk.tables.growth import ALIGNMENT, TableWrite, apply_growth, plan_growth
from drypoint.disk.tables.partitions import Partition, PartitionTable
from drypoint.disk.tables.table_reading import read_table
from drypoint.errors import DiskImageError, PartitionTableError

MIB = 1 << 20
SECTORS_PER_MIB = 2048


def logical_script(data_sectors: int, container: str = "f") -> str:
    """p1 boot, p2 rootA, p3 rootB, p4 extended, p5 state, p6 data, as balenaOS has it."""
    return f"""label: dos
label-id: 0x12345678
start=8192, size=16384, type=e, bootable
start=24576, size=8192, type=83
start=32768, size=8192, type=83
start=40960, size={16384 + data_sectors}, type={container}
start=49152, size=4096, type=83
start=57344, size={data_sectors}, type=83
"""


def primary_script(data_sectors: int) -> str:
    return f"label: dos\nlabel-id: 0x1\nstart=8192, size=8192, type=c\nstart=16384, size={data_sectors}, type=83\n"


def gpt_script(data_sectors: int) -> str:
    return f"""label: gpt
label-id: 0F5A0000-1111-2222-3333-444455556666
start=8192, size=8192, type=uefi, name="resin-boot", uuid=0F5A0000-0000-0000-0000-000000000001
start=16384, size=8192, type=linux, name="resin-rootA", attrs="GUID:48,63", uuid=0F5A0000-0000-0000-0000-000000000002
start=24576, size={data_sectors}, type=linux, name="résin-data", uuid=0F5A0000-0000-0000-0000-000000000003
"""


def sfdisk(path: Path, script: str, size: int) -> None:
    path.touch()
    os.truncate(path, size)
    subprocess.run(["/usr/sbin/sfdisk", "-q", str(path)], input=script.encode(), check=True, capture_output=True)


def judged(path: Path) -> list[dict[str, object]]:
    """The partitions as sfdisk reads them, after sfdisk (and for a GPT sgdisk) found nothing wrong."""
    verdict = subprocess.run(["/usr/sbin/sfdisk", "--verify", str(path)], capture_output=True, text=True, check=False)
    assert verdict.returncode == 0, verdict
    assert "No errors detected" in verdict.stdout
    table = json.loads(
        subprocess.run(["/usr/sbin/sfdisk", "--json", str(path)], check=True, capture_output=True).stdout
    )
    if table["partitiontable"]["label"] == "gpt":
        verdict = subprocess.run(["/usr/sbin/sgdisk", "-v", str(path)], capture_output=True, text=True, check=False)
        assert "No problems found" in verdict.stdout, verdict
        # sgdisk finds "no problems" once it has put a damaged copy right in memory; only standard error tells.
        assert verdict.stderr == "", verdict
    partitions = table["partitiontable"]["partitions"]
    assert isinstance(partitions, list)
    for partition in partitions:
        del partition["node"]
    return partitions


def grow(path: Path, number: int, new_size: int) -> tuple[Partition, PartitionTable]:
    with FileDevice(path, writable=True) as device:
        table = read_table(device)
        partition = next(item for item in table.partitions if item.number == number)
        plan = plan_growth(table, device.size, partition, new_size)
        return plan.partition, apply_growth(device, plan)


@pytest.mark.parametrize(("old", "new"), [(32, 64), (32, 36), (4, 9000), (4, 20000)])
def test_a_logical_partition_grows_as_sfdisk_would_have_made_it(tmp_path: Path, old: int, new: int) -> None:
    path, expected = tmp_path / "disk.img", tmp_path / "expected.img"
    sfdisk(path, logical_script(old * SECTORS_PER_MIB), (28 + old) * MIB)
    sfdisk(expected, logical_script(new * SECTORS_PER_MIB), (28 + new) * MIB)
    partition, _ = grow(path, 6, new * MIB)
    assert partition.size == new * MIB
    assert judged(path) == judged(expected)
    assert path.stat().st_size == expected.stat().st_size
    with path.open("rb") as file, expected.open("rb") as other:
        assert file.read(32 * MIB) == other.read(32 * MIB)
    assert path.stat().st_blocks < 1000


@pytest.mark.parametrize("container", ["5", "85"])
def test_other_types_of_extended_partition(tmp_path: Path, container: str) -> None:
    path, expected = tmp_path / "disk.img", tmp_path / "expected.img"
    sfdisk(path, logical_script(8 * SECTORS_PER_MIB, container), 36 * MIB)
    sfdisk(expected, logical_script(16 * SECTORS_PER_MIB, container), 44 * MIB)
    grow(path, 6, 16 * MIB)
    assert path.read_bytes() == expected.read_bytes()


def test_the_first_logical_partition_grows_when_it_is_the_only_one(tmp_path: Path) -> None:
    script = "label: dos\nlabel-id: 0x1\nstart=8192, size={}, type=5\nstart=16384, size={}, type=83\n"
    path, expected = tmp_path / "disk.img", tmp_path / "expected.img"
    sfdisk(path, script.format(16384, 8192), 12 * MIB)
    sfdisk(expected, script.format(24576, 16384), 16 * MIB)
    grow(path, 5, 8 * MIB)
    assert path.read_bytes() == expected.read_bytes()


def test_a_primary_partition_grows(tmp_path: Path) -> None:
    path, expected = tmp_path / "disk.img", tmp_path / "expected.img"
    sfdisk(path, primary_script(8192), 12 * MIB)
    sfdisk(expected, primary_script(40960), 28 * MIB)
    grow(path, 2, 20 * MIB)
    assert judged(path) == judged(expected)
    assert path.read_bytes() == expected.read_bytes()


def test_a_gpt_partition_grows_as_sfdisk_would_have_made_it(tmp_path: Path) -> None:
    path, expected = tmp_path / "disk.img", tmp_path / "expected.img"
    sfdisk(path, gpt_script(8192), 17 * MIB)
    with path.open("r+b") as file:
        file.seek(24576 * 512)
        file.write(b"contents")
    before = judged(path)
    sfdisk(expected, gpt_script(81920), 53 * MIB)
    with expected.open("r+b") as file:
        file.seek(24576 * 512)
        file.write(b"contents")
    partition, table = grow(path, 3, 40 * MIB)
    assert (partition.end, path.stat().st_size) == (52 * MIB, 53 * MIB)
    assert table.notes == ()
    after = judged(path)
    assert after == judged(expected)
    assert [{**item, "size": 0} for item in after] == [{**item, "size": 0} for item in before]
    assert path.read_bytes() == expected.read_bytes()


def test_a_gpt_partition_grows_into_room_that_the_disk_has(tmp_path: Path) -> None:
    path, expected = tmp_path / "disk.img", tmp_path / "expected.img"
    sfdisk(path, gpt_script(8192), 64 * MIB)
    sfdisk(expected, gpt_script(16384), 64 * MIB)
    grow(path, 3, 7 * MIB)
    assert path.read_bytes() == expected.read_bytes()


def test_a_little_growth_moves_the_backup_onto_its_old_place(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, gpt_script(8192 + 2048), 17 * MIB + 34 * 512)
    grow(path, 3, 5 * MIB + 1)
    judged(path)
    assert read(path).notes == ()
    # Disks whose end is not aligned: the new backup (32 + 1 sectors) overlaps the old one.
    sfdisk(path, gpt_script(8192), 17 * MIB - 512)
    grow(path, 3, 4 * MIB + 1)
    judged(path)
    assert read(path).notes == ()


def read(path: Path) -> PartitionTable:
    with FileDevice(path) as device:
        return read_table(device)


@pytest.mark.parametrize("damaged", ["primary", "backup"])
def test_growth_repairs_a_gpt_of_which_one_copy_is_damaged(tmp_path: Path, damaged: str) -> None:
    path, expected = tmp_path / "disk.img", tmp_path / "expected.img"
    sfdisk(path, gpt_script(8192), 17 * MIB)
    sfdisk(expected, gpt_script(16384), 21 * MIB)
    with path.open("r+b") as file:
        file.seek(512 if damaged == "primary" else 17 * MIB - 512)
        file.write(bytes(100))
    grow(path, 3, 8 * MIB)
    assert path.read_bytes() == expected.read_bytes()


def test_the_judges_find_planted_faults(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, gpt_script(8192), 17 * MIB)
    judged(path)
    with path.open("r+b") as file:
        file.seek(17 * MIB - 512 + 48)
        file.write(b"\x01")
    with pytest.raises(AssertionError):
        judged(path)
    sfdisk(path, logical_script(8192), 32 * MIB)
    with path.open("r+b") as file:
        file.seek(446 + 3 * 16 + 12)
        file.write(struct.pack("<I", 16384))
    with pytest.raises(AssertionError):
        judged(path)


def test_the_protective_mbr_may_claim_the_whole_range(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, gpt_script(8192), 17 * MIB)
    with path.open("r+b") as file:
        file.seek(446 + 12)
        file.write(b"\xff" * 4)
    grow(path, 3, 8 * MIB)
    assert path.read_bytes()[446 + 12 : 446 + 16] == b"\xff" * 4
    judged(path)


def test_no_growth_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, gpt_script(8192), 17 * MIB)
    before = path.read_bytes()
    partition, _ = grow(path, 3, 4 * MIB)
    assert partition.size == 4 * MIB
    assert path.read_bytes() == before


def test_the_limit_of_an_mbr(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, logical_script(8192), 32 * MIB)
    with pytest.raises(PartitionTableError, match="2 TiB"):
        grow(path, 6, 2 << 40)
    grow(path, 6, (2 << 40) - 40 * MIB)
    judged(path)


def test_a_hybrid_mbr_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, gpt_script(8192), 17 * MIB)
    with path.open("r+b") as file:
        file.seek(446 + 16)
        file.write(struct.pack("<B3sB3sII", 0, b"\0\0\0", 0x0C, b"\0\0\0", 8192, 8192))
    with pytest.raises(DiskImageError, match="hybrid"):
        grow(path, 3, 8 * MIB)


def test_a_growth_that_did_not_take_is_found(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    sfdisk(path, primary_script(8192), 12 * MIB)
    with FileDevice(path, writable=True) as device:
        table = read_table(device)
        plan = plan_growth(table, device.size, table.partitions[1], 8 * MIB)
        lost = replace(plan, writes=(TableWrite(0, table_sector(path)),))
        with pytest.raises(PartitionTableError, match="with partition 2 8388608 bytes long, the table should hold"):
            apply_growth(device, lost)


def table_sector(path: Path) -> bytes:
    return path.read_bytes()[:512]


@settings(max_examples=12, deadline=None)
@given(old=st.integers(1, 40000), new=st.integers(0, 64 * MIB), tail=st.integers(34, 9000))
def test_any_growth_of_a_gpt_is_sound(tmp_path_factory: pytest.TempPathFactory, old: int, new: int, tail: int) -> None:
    path = tmp_path_factory.mktemp("growth") / "disk.img"
    sfdisk(path, gpt_script(old), (24576 + old + tail) * 512)
    partition, table = grow(path, 3, new)
    assert partition.size >= max(new, old * 512)
    assert partition.size == old * 512 or partition.end % ALIGNMENT == 0
    assert table.notes == ()
    judged(path)
    shutil.rmtree(path.parent)


@pytest.mark.engine
def test_a_gpt_of_4096_byte_sectors_grows(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 32 * MIB)
    script = "label: gpt\nstart=1024, size=1024, name=boot\nstart=2048, size=1024, name=data\n"
    on_loop(path, ["/usr/sbin/sfdisk", "-q"], script)
    before = on_loop(path, ["/usr/sbin/sfdisk", "--json"])
    partition, _ = grow(path, 2, 50 * MIB)
    assert partition.end == 60 * MIB
    assert "No problems found" in on_loop(path, ["/usr/sbin/sgdisk", "-v"])
    assert "No errors detected" in on_loop(path, ["/usr/sbin/sfdisk", "--verify"])
    after = json.loads(on_loop(path, ["/usr/sbin/sfdisk", "--json"]))["partitiontable"]
    wanted = json.loads(before)["partitiontable"]
    assert after["sectorsize"] == 4096
    assert after["partitions"][1].pop("size") == 52 * MIB // 4096
    assert wanted["partitions"][1].pop("size") == 1024
    for table in (after, wanted):
        for item in table["partitions"]:
            del item["node"]
    assert after["partitions"] == wanted["partitions"]
    assert after["id"] == wanted["id"]


def on_loop(path: Path, command: list[str], script: str | None = None) -> str:
    attach = ["/usr/sbin/losetup", "--find", "--show", "--sector-size", "4096", str(path)]
    loop = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    try:
        done = subprocess.run([*command, loop], input=script, check=True, capture_output=True, text=True)
    finally:
        subprocess.run(["/usr/sbin/losetup", "--detach", loop], check=True)
    return done.stdout
