"""Flasher images like those of balenaOS, made with the tools of balenaOS builds.

Layout: meta-balena, balena-image-flasher.bb and image_types_balena.bbclass. The partitions are those of balenaOS with other
labels. rootB, state and data have the least size, the last two without a file system; so flash-rootA is not the last one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.mounts import mounted

from drypoint.disk.host.copies import copy_sparse
from drypoint.samples.disk_images import (
    IMAGE_TOOLS,
    MIB,
    DeviceType,
    DiskImage,
    PartitionTable,
    Sizes,
    boot_files,
    make_ext4_partition,
    make_fat,
    partition_disk,
    write_tree,
)
from drypoint.samples.tools import require_tools, run_tool

_SPARE = 24 * MIB
_SMALLEST = 4 * MIB
_PIECE = 64 << 10
_RELEASE = 'ID="balena-os"\nNAME="balenaOS"\nVERSION="6.1.24"\nVERSION_ID="6.1.24"\n'
_ROOT_FILES = {
    "etc/os-release": _RELEASE.encode(),
    "etc/issue": b"balenaOS 6.1.24 \\n \\l\n",
    "opt/.keep": b"",
    "usr/bin/resin-init-flasher": b"#!/bin/bash\nset -e\n" + b"# as long as the real one\n" * 1000,
    "usr/lib/firmware": bytes(range(256)) * 2000,
}


@dataclass(frozen=True, slots=True)
class FlasherImage:
    """*disk* is the outer disk image; *path* names the inner one in flash-rootA, from its root."""

    disk: DiskImage
    path: str

    @property
    def root(self) -> str:
        """flash-rootA, in the form for e2fsprogs' tools."""
        return f"{self.disk.path}?offset={self.disk.partition('flash-rootA').offset}"

    def dump(self, target: Path) -> Path:
        """Copy the inner disk image to *target*, a sparse file, with debugfs."""
        run_tool("debugfs", "-R", f"dump /{self.path} {target}", self.root)
        return target

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount flash-rootA read-only (root only)."""
        root = self.disk.partition("flash-rootA")
        with mounted(self.disk.path, offset=root.offset, size=root.size) as point:
            yield point


def build_flasher_image(
    path: Path,
    inner: Path,
    *,
    table: PartitionTable = PartitionTable.GPT,
    device_type: DeviceType | None = None,
    config: Mapping[str, object] | None = None,
    beside: Mapping[str, bytes] | None = None,
    suffix: str = "",
    spare: int = _SPARE,
    pieces: int = 0,
    ext4_options: tuple[str, ...] = (),
) -> FlasherImage:
    """Make a disk image at *path* that installs the disk image *inner*; deterministic, and sparse as *inner* is.

    Args:
        config: additional keys of config.json in flash-boot.
        beside: additional files in flash-rootA, content by path.
        suffix: of the inner image's name, such as ``.gz``.
        spare: bytes in flash-rootA beyond its content; the file system itself uses most of them.
        pieces: more than 0: the inner image is in at least so many extents, as far as it has 64 KiB for each.
        ext4_options: more options for flash-rootA's mkfs.ext4.

    Raises:
        ToolError: a tool is missing (the message names the Debian package) or fails.
    """
    require_tools(*IMAGE_TOOLS)
    device_type = device_type or DeviceType()
    name = f"balena-image-{device_type.slug}.balenaos-img{suffix}"
    held = inner.stat().st_blocks * 512 + 2 * pieces * _PIECE
    sizes = Sizes(root_a=-(-(held + spare) // _SMALLEST) * _SMALLEST, root_b=_SMALLEST, state=_SMALLEST, data=_SMALLEST)
    disk = DiskImage(path, table, partition_disk(path, table, sizes, prefix="flash"))
    root = disk.partition("flash-rootA")
    with tempfile.TemporaryDirectory(prefix="drypoint-flasher-", dir=path.parent) as scratch:
        tree = write_tree(Path(scratch) / "root", {**_ROOT_FILES, **_configuration(name), **(beside or {})})
        if not pieces:
            _copy(inner, tree / "opt" / name)
        boot = boot_files(device_type, artifact="balena-image-flasher")
        boot["config.json"] = json.dumps({**json.loads(boot["config.json"]), **(config or {})}).encode()
        make_fat(path, disk.partition("flash-boot"), {**boot, "balena-image-flasher": b""})
        make_ext4_partition(path, root, tree, ext4_options)
        make_ext4_partition(path, disk.partition("flash-rootB"), write_tree(Path(scratch) / "root-b", {}))
    if pieces:
        write_in_pieces(path, root.offset, inner, name, directory="/opt", pieces=pieces)
    return FlasherImage(disk, f"opt/{name}")


def write_in_pieces(
    image: Path, offset: int, source: Path, name: str, *, directory: str = "/", pieces: int, piece: int = _PIECE
) -> None:
    """Write the file *source* as *name* into the ext4 file system at *offset* of *image*, in many extents, with debugfs.

    Its first *pieces* × *piece* bytes are in gaps of *piece* bytes, as in a file system that was in use.
    """
    with tempfile.TemporaryDirectory(prefix="drypoint-pieces-", dir=image.parent) as scratch:
        spacer = Path(scratch) / "spacer"
        spacer.write_bytes(b"\x5a" * piece)
        commands = [f"cd {directory}"]
        commands += [f"write {spacer} spacer-{number}" for number in range(2 * pieces)]
        commands += [f"rm spacer-{number}" for number in range(0, 2 * pieces, 2)]
        commands.append(f"write {source} {name}")
        commands += [f"rm spacer-{number}" for number in range(1, 2 * pieces, 2)]
        environment = {"E2FSPROGS_FAKE_TIME": "1700000000"}
        script = "\n".join(commands) + "\n"
        run_tool("debugfs", "-w", "-f", "-", f"{image}?offset={offset}", script=script, extra_environment=environment)


def _configuration(name: str) -> dict[str, bytes]:
    """The flasher's configuration: what to install, and where."""
    content = f'INTERNAL_DEVICE_KERNEL="nvme0n1 sda"\nBALENA_IMAGE={name}\nBALENA_SPLASH_CONFIG=splash\n'
    return {"etc/resin-init-flasher.conf": content.encode()}


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as content, target.open("wb") as out:
        copy_sparse(content.fileno(), out.fileno())
    target.chmod(0o644)
    shutil.copystat(target.parent / ".keep", target)
