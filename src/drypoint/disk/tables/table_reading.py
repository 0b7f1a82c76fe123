"""Reading and checking the partition table of a disk image, of whatever kind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ...errors import PartitionTableError
from ..device import Device, FileDevice
from ..filesystem_info import FilesystemKind
from ..probe import probe, probe_compressed
from .gpt import find_sector_size, read_gpt_table
from .mbr import (
    GPT_PROTECTIVE_TYPE,
    SECTOR_SIZE,
    BootRecord,
    MbrTable,
    has_boot_signature,
    is_plausible,
    parse_boot_record,
    read_mbr_table,
)
from .partitions import Partition, PartitionKind, PartitionTable, end_of


def read_table(device: Device) -> PartitionTable:
    """Read and check the partition table of a disk image.

    A disk image without a table is accepted if it is one ext file system: a single partition of kind WHOLE and number 0.

    Raises:
        PartitionTableError: there is no table; or it is damaged, of an unsupported kind, overlaps, or ends beyond the file.
        DiskImageError: the device cannot be read.
    """
    table = parse_table(device)
    end = end_of(table)
    if end > device.size:
        raise _cut_short(device, table, end)
    return table


def parse_table(device: Device) -> PartitionTable:
    """Like :func:`read_table`, for a disk image whose last partitions may end beyond the end of the file.

    Raises:
        PartitionTableError, DiskImageError: as :func:`read_table`.
    """
    where = device.name
    if device.size < 2 * SECTOR_SIZE:
        raise PartitionTableError(f"{where} is not a disk image: it has only {device.size} bytes")
    sector = device.read(0, SECTOR_SIZE)
    if not has_boot_signature(sector):
        return _without_table(device, "it has no partition table")
    if not is_plausible(sector):
        return _without_table(device, "its first sector holds no valid partition records")
    if _is_boot_sector(device):
        return _without_table(device, "it has no partition table")
    mbr = parse_boot_record(sector, 0, where)
    if any(entry.os_type == GPT_PROTECTIVE_TYPE for entry in mbr.entries):
        return _gpt_table(device, mbr, where)
    if all(entry.is_empty for entry in mbr.entries):
        return _without_table(device, "its partition table is empty")
    return _mbr_table(device, where)


def _is_boot_sector(device: Device) -> bool:
    """Whether the first sector is a FAT boot sector or similar: some formatters write a partition record into it, too."""
    info = probe(device)
    return info is not None and (info.kind.is_fat or info.kind in (FilesystemKind.EXFAT, FilesystemKind.NTFS))


def _without_table(device: Device, reason: str) -> PartitionTable:
    where = device.name
    compressed = probe_compressed(device)
    if compressed:
        raise PartitionTableError(f"{where} is {compressed}-compressed, not a raw disk image; decompress it first")
    info = probe(device)
    if info is None:
        raise PartitionTableError(f"{where} is not a usable disk image: {reason}, and no known file system")
    if not info.kind.is_ext:
        raise PartitionTableError(
            f"{where} is a bare {info.kind} file system without a partition table; "
            "a whole disk image, or a bare ext4 file system, is expected"
        )
    if info.size > device.size:
        raise PartitionTableError(
            f"{where} is an {info.kind} file system of {info.size} bytes, but the file has only {device.size}; "
            f"{_way_out_of_cut(info.size)}"
        )
    return PartitionTable(SECTOR_SIZE, (Partition(0, 0, device.size, PartitionKind.WHOLE, ""),), None)


def _mbr_table(device: Device, where: str) -> PartitionTable:
    source = read_mbr_table(device)
    partitions = [
        Partition(
            number=index + 1,
            start=entry.starting_lba * SECTOR_SIZE,
            size=entry.size_in_lba * SECTOR_SIZE,
            kind=PartitionKind.EXTENDED if entry.is_extended else PartitionKind.PRIMARY,
            type=f"0x{entry.os_type:02x}",
            bootable=entry.boot_indicator == 0x80,
        )
        for index, entry in enumerate(source.mbr.entries)
        if not entry.is_empty
    ]
    logicals = [
        Partition(
            number=5 + index,
            start=logical.first_lba * SECTOR_SIZE,
            size=logical.entry.size_in_lba * SECTOR_SIZE,
            kind=PartitionKind.LOGICAL,
            type=f"0x{logical.entry.os_type:02x}",
            bootable=logical.entry.boot_indicator == 0x80,
        )
        for index, logical in enumerate(source.logicals)
    ]
    _check_starts(partitions + logicals, SECTOR_SIZE, where)
    _check_overlaps([(f"partition {item.number}", item.start, item.end) for item in partitions], where)
    if source.extended is not None:
        _check_logicals(source, partitions, logicals, where)
    return PartitionTable(
        SECTOR_SIZE, tuple(partitions + logicals), source, disk_id=f"0x{source.mbr.disk_signature:08x}"
    )


def _check_logicals(source: MbrTable, partitions: list[Partition], logicals: list[Partition], where: str) -> None:
    container = next(item for item in partitions if item.kind is PartitionKind.EXTENDED)
    for item in logicals:
        if item.start < container.start or item.end > container.end:
            raise PartitionTableError(
                f"{where}: logical partition {item.number} (bytes {item.start} to {item.end}) extends beyond the "
                f"extended partition {container.number} ({container.start} to {container.end}); {_WAY_OUT}"
            )
    records = [
        (f"the extended boot record at sector {ebr.lba}", ebr.lba * SECTOR_SIZE, (ebr.lba + 1) * SECTOR_SIZE)
        for ebr in source.ebrs
    ]
    _check_overlaps(records + [(f"partition {item.number}", item.start, item.end) for item in logicals], where)


def _gpt_table(device: Device, mbr: BootRecord, where: str) -> PartitionTable:
    sector_size = find_sector_size(device)
    if sector_size is None:
        raise PartitionTableError(
            f"{where}: the protective MBR announces a GPT, but neither its header nor its backup is there; "
            "was its download cut short?"
        )
    source = read_gpt_table(device, mbr, sector_size)
    header = source.header
    first, end = header.first_usable_lba * sector_size, (header.last_usable_lba + 1) * sector_size
    partitions = []
    for entry in source.entries:
        if entry.last_lba < entry.first_lba:
            raise PartitionTableError(
                f"{where}: partition {entry.index + 1} ends at sector {entry.last_lba}, before its start {entry.first_lba}"
            )
        partition = Partition(
            number=entry.index + 1,
            start=entry.first_lba * sector_size,
            size=(entry.last_lba - entry.first_lba + 1) * sector_size,
            kind=PartitionKind.GPT,
            type=str(entry.partition_type_guid),
            name=entry.partition_name,
            guid=str(entry.unique_partition_guid),
            attributes=entry.attributes,
        )
        if partition.start < first or partition.end > end:
            raise PartitionTableError(
                f"{where}: partition {partition.number} is in sectors {entry.first_lba} to {entry.last_lba}, outside "
                f"the usable ones ({header.first_usable_lba} to {header.last_usable_lba})"
            )
        partitions.append(partition)
    _check_starts(partitions, sector_size, where)
    _check_overlaps([(f"partition {item.number}", item.start, item.end) for item in partitions], where)
    used = [entry for entry in mbr.entries if entry.os_type != 0]
    is_hybrid = len(used) > 1
    notes = source.damage
    if is_hybrid:
        notes = (*notes, "the MBR is hybrid: it repeats partitions of the GPT; the GPT is used")
    return PartitionTable(sector_size, tuple(partitions), source, str(header.disk_guid), notes, is_hybrid)


_WAY_OUT = "repair the partition table first, with fdisk say, or use another disk image"


def _check_starts(partitions: Sequence[Partition], sector_size: int, where: str) -> None:
    for item in partitions:
        if item.start < sector_size:
            raise PartitionTableError(
                f"{where}: partition {item.number} starts at byte {item.start}, on the table itself"
            )


def _cut_short(device: Device, table: PartitionTable, end: int) -> PartitionTableError:
    last = next(item for item in table.partitions if item.end > device.size)
    story = f"{device.name}: partition {last.number} ends at byte {last.end}, beyond the end of the"
    if isinstance(device, FileDevice) and device.is_block_device:
        return PartitionTableError(f"{story} device ({device.size} bytes); use a larger device")
    return PartitionTableError(f"{story} file ({device.size} bytes); {_way_out_of_cut(end)}")


def _way_out_of_cut(size: int) -> str:
    return (
        "was its download cut short? If zeros at the end were left out, add them to the uncompressed file: "
        f"truncate -s {size} FILE"
    )


def _check_overlaps(ranges: list[tuple[str, int, int]], where: str) -> None:
    ordered = sorted(ranges, key=lambda item: item[1])
    for (name, start, end), (other, other_start, other_end) in pairwise(ordered):
        if other_start < end:
            raise PartitionTableError(
                f"{where}: {name} (bytes {start} to {end}) and {other} ({other_start} to {other_end}) overlap; {_WAY_OUT}"
            )
