"""Disk images like those of balenaOS, made with the tools of balenaOS builds.

Without an engine everything is deterministic and needs no root: two calls give the same bytes. A data partition that a real
engine has filled is made in either of the usual ways: the store is in the directory given as ``data`` (mke2fs copies it), or
the engine runs on the mounted partition afterwards.

Layout: meta-balena, image-balena.bbclass; file systems: the same class and resin-data's recipe.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import assert_never

from ..errors import ToolError
from .tools import require_tools, run_tool

MIB = 1 << 20
SECTOR = 512
EPOCH = 1_700_000_000
"""The time, in seconds, of everything in a deterministic image."""

IMAGE_TOOLS = ("sfdisk", "mkfs.ext4", "debugfs", "mkfs.vfat", "mcopy")
"""The programs for building a disk image; none needs root."""

ALIGNMENT = 4 * MIB
_DISK_ID = "0x6472790a"
_UUID = "64727970-6f69-4e74-8000-{:012x}"
_FAT_SERIAL = "64727970"
_OS_VERSION = "6.1.24"
LOGO = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
"""A PNG of one transparent pixel."""


class PartitionTable(Enum):
    MBR = "dos"
    """Raspberry Pi and most boards: state and data are logical partitions 5 and 6 in the extended partition 4."""
    GPT = "gpt"
    """Generic x86-64 and aarch64: five partitions."""


@dataclass(frozen=True, slots=True)
class DeviceType:
    """The relevant fields of device-type.json: ``arch`` in balena's words (``amd64``, ``aarch64``, ``armv7hf``, ``rpi``)."""

    slug: str = "genericx86-64-ext"
    arch: str = "amd64"
    name: str = "Generic x86_64"


RASPBERRY_PI_4 = DeviceType("raspberrypi4-64", "aarch64", "Raspberry Pi 4 (64bit)")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Partition sizes in bytes, multiples of 4 MiB. ``data`` is small, as in a fresh image: a preload must grow it."""

    boot: int = 40 * MIB
    root_a: int = 32 * MIB
    root_b: int = 32 * MIB
    state: int = 20 * MIB
    data: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition with a file system; ``offset`` and ``size`` in bytes."""

    number: int
    label: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class DiskImage:
    path: Path
    table: PartitionTable
    partitions: tuple[Partition, ...]

    def partition(self, label: str) -> Partition:
        """The partition *label*; KeyError if there is none."""
        return {partition.label: partition for partition in self.partitions}[label]


def build_disk_image(
    path: Path,
    *,
    table: PartitionTable = PartitionTable.MBR,
    sizes: Sizes | None = None,
    device_type: DeviceType | None = None,
    data: Path | None = None,
    ext4_options: tuple[str, ...] = (),
) -> DiskImage:
    """Make a disk image at *path*, a sparse file.

    Args:
        data: a directory that becomes resin-data; start it with :func:`data_tree`. As root its inodes are copied unchanged
            (mke2fs 1.47 drops the nanoseconds of times); otherwise root owns everything in it. None is a fresh partition with
            an empty data root, deterministic to the byte.
        ext4_options: more options for the data partition's mkfs.ext4, for example ``("-O", "^metadata_csum")``.

    Raises:
        ToolError: a tool is missing (the message names the Debian package) or fails.
    """
    require_tools(*IMAGE_TOOLS)
    sizes = sizes or Sizes()
    partitions = partition_disk(path, table, sizes)
    image = DiskImage(path, table, partitions)
    with tempfile.TemporaryDirectory(prefix="drypoint-image-", dir=path.parent) as scratch:
        trees = Path(scratch)
        make_fat(path, image.partition("resin-boot"), boot_files(device_type or DeviceType()))
        make_ext4_partition(path, image.partition("resin-rootA"), _root_tree(trees / "root-a"))
        make_ext4_partition(path, image.partition("resin-rootB"), write_tree(trees / "root-b", {}))
        make_ext4_partition(
            path, image.partition("resin-state"), write_tree(trees / "state", {"root-overlay/.keep": b""})
        )
        fresh = data_tree(trees / "data") if data is None else data
        make_ext4_partition(path, image.partition("resin-data"), fresh, ext4_options, deterministic=data is None)
    return image


def data_tree(directory: Path) -> Path:
    """Make *directory* like the root of resin-data on a fresh image, with an empty data root ``docker/``."""
    write_tree(directory, {"remove_me_to_reset": b"", "resin-data/.keep": b""})
    data_root = directory / "docker"
    data_root.mkdir()
    data_root.chmod(0o710)
    _set_times(directory)
    return directory


def partition_disk(path: Path, table: PartitionTable, sizes: Sizes, *, prefix: str = "resin") -> tuple[Partition, ...]:
    """Make the disk image *path* with balenaOS's partitions, empty; labels start with *prefix*."""
    labels = tuple(f"{prefix}-{name}" for name in ("boot", "rootA", "rootB", "state", "data"))
    lengths = (sizes.boot, sizes.root_a, sizes.root_b, sizes.state, sizes.data)
    numbers = (1, 2, 3, 5, 6) if table is PartitionTable.MBR else (1, 2, 3, 4, 5)
    partitions: list[Partition] = []
    end = 0
    for number, label, size in zip(numbers, labels, lengths, strict=True):
        # The table is before the first partition, a boot record before each logical one.
        gap = ALIGNMENT if not partitions or (table is PartitionTable.MBR and number >= 5) else 0
        partitions.append(Partition(number, label, end + gap, size))
        end += gap + size
    # A GPT has its backup at the end: 33 sectors after the last partition.
    whole = end if table is PartitionTable.MBR else end + MIB
    with path.open("wb") as file:
        file.truncate(whole)
    run_tool(
        "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path, script=_sfdisk_script(table, partitions, end)
    )
    return tuple(partitions)


def _sfdisk_script(table: PartitionTable, partitions: list[Partition], end: int) -> str:
    def place(start: int, size: int) -> str:
        return f"start={start // SECTOR}, size={size // SECTOR}"

    match table:
        case PartitionTable.MBR:
            lines = [f"label: dos\nlabel-id: {_DISK_ID}"]
            for partition in partitions:
                if partition.number == 5:
                    extended = partition.offset - ALIGNMENT
                    lines.append(f"4: {place(extended, end - extended)}, type=f")
                kind = "e, bootable" if partition.number == 1 else "83"
                lines.append(f"{partition.number}: {place(partition.offset, partition.size)}, type={kind}")
        case PartitionTable.GPT:
            lines = [f"label: gpt\nlabel-id: {_UUID.format(0)}"]
            for partition in partitions:
                kind = "uefi" if partition.number == 1 else "linux"
                names = f"uuid={_UUID.format(partition.number)}, name={partition.label}"
                lines.append(f"{partition.number}: {place(partition.offset, partition.size)}, type={kind}, {names}")
        case _:
            assert_never(table)
    return "\n".join(lines) + "\n"


def boot_files(device_type: DeviceType, *, artifact: str = "balena-image") -> dict[str, bytes]:
    """The files of the boot partition: content by path. *artifact* is the start of the image's name."""
    about = {
        "slug": device_type.slug,
        "arch": device_type.arch,
        "name": device_type.name,
        "yocto": {"machine": device_type.slug, "deployArtifact": f"{artifact}-{device_type.slug}.balenaos-img"},
    }
    return {
        "device-type.json": json.dumps(about, indent=2).encode(),
        "config.json": json.dumps({"deviceType": device_type.slug, "persistentLogging": False}).encode(),
        "splash/balena-logo.png": LOGO,
        "system-connections/resin-sample.ignore": b"[connection]\nid=resin-sample\ntype=wifi\n",
    }


def _root_tree(directory: Path) -> Path:
    release = f'ID="balena-os"\nNAME="balenaOS"\nVERSION="{_OS_VERSION}"\nVERSION_ID="{_OS_VERSION}"\n'
    return write_tree(
        directory, {"etc/os-release": release.encode(), "etc/issue": f"balenaOS {_OS_VERSION} \\n \\l\n".encode()}
    )


def write_tree(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Make *directory* with *files*, content by path; modes and times do not depend on the host."""
    directory.mkdir()
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o644)
    for place, _, _ in os.walk(directory):
        # Independent of the caller's umask.
        Path(place).chmod(0o755)
    _set_times(directory)
    return directory


def _set_times(directory: Path) -> None:
    for place, _, files in os.walk(directory, topdown=False):
        for name in (*files, "."):
            os.utime(Path(place) / name, (EPOCH, EPOCH))


def make_fat(image: Path, partition: Partition, files: Mapping[str, bytes]) -> None:
    """Make the FAT file system of *partition*, with *files* in it.

    It is made in a file of its own and copied: mkfs.vfat would use the rest of the disk image.
    """
    environment = {"SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC0", "MTOOLS_SKIP_CHECK": "1"}
    with tempfile.TemporaryDirectory(prefix="drypoint-fat-", dir=image.parent) as scratch:
        tree, fat = write_tree(Path(scratch) / "tree", files), Path(scratch) / "fat"
        with fat.open("wb") as file:
            file.truncate(partition.size)
        run_tool("mkfs.vfat", "--invariant", "-i", _FAT_SERIAL, "-n", partition.label, fat)
        for entry in sorted(tree.iterdir()):
            run_tool("mcopy", "-s", "-m", "-i", fat, entry, "::", extra_environment=environment)
        _copy_into(fat, image, partition.offset)


def _copy_into(source: Path, image: Path, offset: int) -> None:
    """Write the content of *source* at *offset* of the image; zeros stay holes."""
    with source.open("rb") as content, image.open("r+b") as out:
        for at in range(0, source.stat().st_size, MIB):
            chunk = content.read(MIB)
            if chunk.strip(b"\0"):
                out.seek(offset + at)
                out.write(chunk)


def make_ext4_partition(
    image: Path, partition: Partition, tree: Path, options: tuple[str, ...] = (), *, deterministic: bool = True
) -> None:
    """Make the ext4 file system of *partition*, with a copy of *tree* in it, see :func:`build_disk_image`."""
    extended = f"lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,offset={partition.offset}"
    extended += f",hash_seed={_UUID.format(partition.number)}"
    environment = {"E2FSPROGS_FAKE_TIME": str(EPOCH)}
    common = ["-q", "-F", "-T", "default", "-b", "4096", "-i", "8192", "-L", partition.label]
    common += ["-U", _UUID.format(partition.number), "-E", extended, *options]
    # Without a size mke2fs would use the file to its end; the unit is the block of -b.
    run_tool("mkfs.ext4", *common, "-d", tree, image, str(partition.size // 4096), extra_environment=environment)
    if deterministic or os.geteuid() != 0:
        _settle_inodes(image, partition, tree, deterministic)


def _settle_inodes(image: Path, partition: Partition, tree: Path, deterministic: bool) -> None:
    """Replace what mke2fs takes from the host: owners, if the tree is not root's, and times that no call can set."""
    commands: list[str] = []
    for place, directories, files in os.walk(tree):
        for name in sorted((*directories, *files)):
            path = "/" / (Path(place) / name).relative_to(tree)
            if '"' in str(path) or "\n" in str(path):
                raise ToolError(f"{path}: debugfs takes no quotation mark or newline in a name; make the image as root")
            commands += [f'sif "{path}" uid 0', f'sif "{path}" gid 0']
            if deterministic:
                commands += [f'sif "{path}" {field} @{EPOCH}' for field in ("atime", "ctime")]
    run_tool(
        "debugfs",
        "-w",
        "-f",
        "-",
        f"{image}?offset={partition.offset}",
        script="\n".join(commands) + "\n",
        extra_environment={"E2FSPROGS_FAKE_TIME": str(EPOCH)},
    )
