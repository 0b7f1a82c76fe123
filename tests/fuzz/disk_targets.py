"""Disk images: partition tables, superblocks, and an ext4 file system whose metadata cannot be trusted."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import fastcrc

from drypoint.disk import PartitionKind, describe, find_partition, plan_growth, probe, probe_partitions, read_table
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.disk.formats.foreign import foreign_format
from drypoint.disk.probe import probe_compressed
from drypoint.disk.tables.gpt import REVISION, GptEntry, GptHeader, pack_entry
from drypoint.errors import DiskImageError, DrypointError, FilesystemError
from drypoint.fstree import Directory, Regular, Stat
from drypoint.lanes import ENABLED
from drypoint.samples.tools import run_tool
from tests.support.devices import MemoryDevice, PatchedDevice

from .material import Material, patch
from .target import PropertyError, Target

_MIB = 1 << 20
_SECTOR = 512
_DISK = 8 * _MIB
_MOST_EDITS = 24
_LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_MOST_READ = 64 * _MIB
"""Bytes of a small file system that its whole walk may read, contents left out."""
_CHUNKS_READ = 4
_MOST_ENTRIES = 2000
_SHAPES = (
    ("-O", "^metadata_csum,^64bit", "-b", "1024"),
    ("-O", "^extent,^metadata_csum,^64bit,^flex_bg", "-b", "1024", "-I", "128"),
    ("-O", "inline_data,^metadata_csum,^uninit_bg", "-b", "1024"),
    ("-O", "ea_inode,^metadata_csum,^uninit_bg", "-b", "4096"),
    ("-O", "metadata_csum,64bit", "-b", "1024"),
)
_Disk = tuple[dict[int, bytes], tuple[int, ...]]


def read_any_table(data: bytes) -> None:
    material = Material(data)
    head = material.number()
    base, places = _disks()[head % len(_disks())]
    parts = {offset: bytearray(part) for offset, part in base.items()}
    for _ in range(_MOST_EDITS):
        if not material:
            break
        place = material.choice(places)
        patch(parts[place], material.number(2) % len(parts[place]), material)
    if head & 0x80:
        _repair_gpt(parts)
    size = _DISK - material.choice((0, 0, 1, _SECTOR, _DISK - 1, _MIB, -7))
    device = PatchedDevice(size, parts)
    table = read_table(device)
    found = probe_partitions(device, table)
    describe(found)
    for selector in ("label", "", "5", 1):
        with suppress(DrypointError):
            find_partition(device, table, selector)
    spans = sorted((item.start, item.end) for item in table.partitions if item.kind is not PartitionKind.EXTENDED)
    if any(start < 0 or end > size or start >= end for start, end in spans):
        raise PropertyError(f"a partition outside the disk image: {spans}")
    if any(before[1] > after[0] for before, after in pairwise(spans)):
        raise PropertyError(f"partitions overlap: {spans}")
    for partition in table.partitions:
        with suppress(DrypointError):
            planned = plan_growth(table, size, partition, partition.size + 3 * _MIB)
            if planned.device_size < size or any(write.offset < 0 for write in planned.writes):
                raise PropertyError(f"{planned} is no growth")


@cache
def _disks() -> tuple[_Disk, ...]:
    """Disk images by their parts, and the parts that are worth changing."""
    fat = bytearray(_SECTOR)
    fat[:3], fat[510:] = b"\xeb\x3c\x90", b"\x55\xaa"
    struct.pack_into("<HBHBHHBH", fat, 11, 512, 1, 1, 2, 16, 2000, 0xF8, 8)
    fat[38:62] = b"\x29abcdBOOT       FAT16   "
    superblock = bytearray(1024)
    struct.pack_into("<II", superblock, 0, 64, 1024)
    superblock[56:58], superblock[120:125] = b"\x53\xef", b"label"
    primaries = _boot_record((0x0C, 64, 2048), (0x83, 4096, 2048), (0x0F, 8192, 8192))
    first, second = _boot_record((0x83, 64, 2048), (0x05, 4096, 4096)), _boot_record((0x83, 64, 1024))
    mbr = {
        0: primaries,
        8192 * 512: first,
        12288 * 512: second,
        64 * 512: bytes(fat),
        4096 * 512 + 1024: bytes(superblock),
    }
    disks: list[_Disk] = [(mbr, tuple(mbr))]
    for sector_size in (512, 4096):
        gpt = _gpt_disk(sector_size)
        disks.append((gpt, tuple(gpt)))
    bare = {1024: bytes(superblock)}
    return (*disks, (bare, tuple(bare)), ({0: bytes(fat)}, (0,)))


def _boot_record(*entries: tuple[int, int, int]) -> bytes:
    sector = bytearray(_SECTOR)
    for index, (kind, start, size) in enumerate(entries):
        struct.pack_into("<B3sB3sII", sector, 446 + 16 * index, 0, b"", kind, b"", start, size)
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def _gpt_disk(sector_size: int) -> dict[int, bytes]:
    last = _DISK // sector_size - 1
    entries = [GptEntry(n, _LINUX, UUID(int=n + 1), 300 + 100 * n, 399 + 100 * n, 0, f"part{n}") for n in range(3)]
    array = b"".join(pack_entry(entry) for entry in entries).ljust(4096, b"\0")
    crc, count = zlib.crc32(array), len(array) // 128

    def header(mine: int, other: int, entry_lba: int) -> bytes:
        made = GptHeader(REVISION, 92, mine, other, 40, last - 40, UUID(int=9), entry_lba, count, 128, crc)
        return made.pack(sector_size)

    protective = _boot_record((0xEE, 1, _DISK // sector_size - 1))
    backup = last - 8
    return {
        0: protective,
        sector_size: header(1, last, 2),
        2 * sector_size: array,
        backup * sector_size: array,
        last * sector_size: header(last, 1, backup),
    }


def _repair_gpt(parts: dict[int, bytearray]) -> None:
    """Make the checksums right, so that what lies behind them is reached."""
    arrays = [part for part in parts.values() if len(part) == 4096 and not part.startswith(b"EFI PART")]
    for part in parts.values():
        if part.startswith(b"EFI PART"):
            size = struct.unpack_from("<I", part, 12)[0]
            length = struct.unpack_from("<I", part, 80)[0] * struct.unpack_from("<I", part, 84)[0]
            if arrays:
                part[88:92] = zlib.crc32(arrays[0][: min(length, 4096)]).to_bytes(4, "little")
            part[16:20] = bytes(4)
            part[16:20] = zlib.crc32(part[: min(size, len(part))]).to_bytes(4, "little")


def _table_edits() -> Iterator[bytes]:
    for disk in range(len(_disks())):
        yield bytes([disk])
        yield bytes([0x80 | disk]) + b"\0\xc2\x01\x00\x83" + b"\1\x50\0\2\4\0\0\0"
        yield bytes([0x80 | disk]) + b"\2\x28\0\7\1\0\0\0\0\0\0\0" + b"\1\xca\x01\2\0\x20\0\0"


def probe_anything(data: bytes) -> None:
    material = Material(data)
    offset = material.choice((0, 1024, 512, 3, 4086, 32769, 65536, 0x10000 + 64))
    size = material.choice((_MIB, 512, 1024, 2048, 68 * 1024, 0)) + material.number()
    head = material.rest()
    device = PatchedDevice(max(size, 1), {offset: head[:4096], 4096: head[4096:]})
    probe(device)
    probe_compressed(device)
    foreign_format(device)
    if device.bytes_read > 2 * _MIB:
        raise PropertyError(f"{device.bytes_read} bytes read to tell a file system")


def _superblocks() -> Iterator[bytes]:
    disks = _disks()
    yield b"\1\0\0" + disks[3][0][1024]
    yield b"\0\0\0" + disks[4][0][0]
    fat32 = bytearray(disks[4][0][0])
    fat32[17:19], fat32[22:24], fat32[36:40], fat32[44:48] = bytes(2), bytes(2), b"\x08\0\0\0", b"\2\0\0\0"
    yield b"\0\0\0" + bytes(fat32)
    for offset, magic in (
        (0, b"LUKS\xba\xbe\0\2"),
        (0, b"hsqs"),
        (0, b"XFSB"),
        (1, b"\x10\x20\xf5\xf2"),
        (7, b"_BHRfS_M"),
    ):
        yield bytes([offset, 0, 0]) + magic.ljust(600, b"x")
    yield b"\4\0\0SWAPSPACE2"
    yield b"\5\0\0CD001"


def _damaged_ext4(data: bytes) -> bytearray:
    """A small file system with numbers in chosen metadata blocks changed."""
    material = Material(data)
    content, blocks, size = _filesystem(material.number() % len(_SHAPES))
    parts = {block: bytearray(content[block : block + size]) for block in blocks}
    for _ in range(_MOST_EDITS):
        if not material:
            break
        block = parts[blocks[material.number() % len(blocks)]]
        patch(block, material.number(2) % len(block), material)
    _repair_superblock(parts, size)
    changed = bytearray(content)
    for offset, part in parts.items():
        changed[offset : offset + len(part)] = part
    return changed


def read_any_ext4(data: bytes) -> None:
    """The whole tree of a damaged file system is read."""
    device = MemoryDevice(_damaged_ext4(data))
    reader = Ext4Reader(device, allow_dirty=True)
    for _ in islice(reader.groups(), 64):
        pass
    seen = 0
    for found in _walk(reader):
        seen += 1
        if seen > _MOST_ENTRIES:
            raise PropertyError("a small file system without an end")
        if isinstance(found.entry, Regular):
            # A damaged inode can claim terabytes of nothing.
            got = sum(len(chunk) for chunk in islice(reader.read(found), _CHUNKS_READ))
            if got > found.entry.size:
                raise PropertyError(f"{got} bytes of {found.entry.size}")
    if device.bytes_read > seen * _CHUNKS_READ * _MIB + _MOST_READ:
        raise PropertyError(f"{device.bytes_read} bytes read for {seen} entries")


def compare_lane_of_ext4(data: bytes) -> None:
    """A compiled lane reads a damaged file system as Python does."""
    content = _damaged_ext4(data)
    if _all_of_ext4(content, lane=True) != _all_of_ext4(content, lane=False):
        raise PropertyError("the lane reads the file system otherwise than its twin")


def _all_of_ext4(content: bytearray, *, lane: bool) -> list[object]:
    """All that a reader gives, and its errors."""
    found: list[object] = []
    try:
        reader = Ext4Reader(MemoryDevice(content), allow_dirty=True, lane=lane)
        for stat in islice(_walk(reader), _MOST_ENTRIES):
            found.append(stat)
            if isinstance(stat.entry, Regular):
                found.extend(bytes(chunk) for chunk in islice(reader.read(stat), _CHUNKS_READ))
    except (FilesystemError, DiskImageError) as error:
        found.append(str(error))
    return found


def _walk(reader: Ext4Reader) -> Iterator[Stat]:
    root = reader.lookup(b"")
    if root is None:
        raise PropertyError("no root")
    waiting = [root]
    while waiting:
        found = waiting.pop()
        yield found
        if isinstance(found.entry, Directory):
            # One damaged directory hides no other.
            with suppress(FilesystemError):
                waiting.extend(reader.children(found.entry))


@cache
def _filesystem(shape: int) -> tuple[bytes, tuple[int, ...], int]:
    """A file system, the offsets of its metadata blocks, and the size of a block."""
    options = _SHAPES[shape]
    with TemporaryDirectory() as directory:
        tree, image = Path(directory, "tree"), Path(directory, "image")
        (tree / "many").mkdir(parents=True)
        for number in range(30):
            (tree / "many" / f"a file with a long name {number:04}").write_bytes(b"%d" % number)
        (tree / "large").write_bytes(bytes(range(256)) * 1200)
        with (tree / "holes").open("wb") as file:
            for position in (0, 30_000, 60_000, 90_000, 120_000, 200_000):
                file.seek(position)
                file.write(b"data")
        (tree / "short").symlink_to("to")
        (tree / "long").symlink_to("far/" * 40)
        image.touch()
        with image.open("wb") as file:
            file.truncate(_MIB)
        run_tool("mkfs.ext4", "-q", "-F", "-N", "64", *options, "-d", tree, image)
        Path(directory, "value").write_bytes(b"long value " * 300)
        commands = ["mknod device c 300 70000", "mknod pipe p", "ea_set large user.a 1"]
        if "ea_inode" in options[1]:
            commands.append(f"ea_set -f {directory}/value large user.long")
        run_tool("debugfs", "-w", "-f", "/dev/stdin", image, script="\n".join(commands))
        content = image.read_bytes()
    size = int(options[options.index("-b") + 1])
    device = MemoryDevice(content)
    reader = Ext4Reader(device)
    for found in _walk(reader):
        if isinstance(found.entry, Regular):
            for _ in reader.read(found):
                pass
    # Long runs are the inode table, whose used part is at its start, or files' content.
    offsets = {offset + done for offset, length in device.reads for done in range(0, min(length, 8 * size), size)}
    return content, tuple(sorted(offset - offset % size for offset in offsets)), size


def _repair_superblock(parts: dict[int, bytearray], size: int) -> None:
    block, start = (parts[1024], 0) if size == 1024 else (parts[0], 1024)
    crc = fastcrc.crc32.iscsi(bytes(block[start : start + 0x3FC])) ^ 0xFFFFFFFF
    struct.pack_into("<I", block, start + 0x3FC, crc)


def _ext4_edits() -> Iterator[bytes]:
    for shape in range(len(_SHAPES)):
        yield bytes([shape])
        blocks = len(_filesystem(shape)[1])
        for block in range(min(blocks, 40)):
            yield bytes([shape, block, 0x28, 0, 2, 1, 0, 0, 0])


TARGETS = (
    Target("partition_table", read_any_table, _table_edits, ("drypoint.disk",), (DiskImageError,)),
    Target(
        "probe",
        probe_anything,
        _superblocks,
        ("drypoint.disk",),
        (DiskImageError,),
        tokens=(b"\x55\xaa", b"_BHRfS_M", b"SWAPSPACE2"),
    ),
    Target(
        "ext4",
        read_any_ext4,
        _ext4_edits,
        ("drypoint.disk.ext4",),
        (DiskImageError,),
        longest=256,
        tools=("mkfs.ext4", "debugfs"),
    ),
    *(
        [
            Target(
                "ext4_lane",
                compare_lane_of_ext4,
                _ext4_edits,
                ("drypoint.disk.ext4",),
                (DiskImageError,),
                longest=256,
                tools=("mkfs.ext4", "debugfs"),
            )
        ]
        if ENABLED
        else []
    ),
)
