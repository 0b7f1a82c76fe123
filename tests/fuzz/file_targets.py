"""A file inside an ext4 file system whose metadata cannot be trusted: read as a device, cut, and made larger."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import fastcrc

from drypoint.disk.ext4.read.file_device import open_ext4_file
from drypoint.disk.ext4.write.file_blocks import allocate_file, truncate_file
from drypoint.errors import DiskImageError
from drypoint.samples.tools import run_tool
from tests.support.devices import MemoryDevice
from tests.support.flasher_images import write_in_pieces

from .material import Material, patch
from .target import PropertyError, Target

_SIZE = 1 << 20
_BLOCK = 1024
_FILE = b"inner"
_MOST_EDITS = 24
_MOST_READ = 64 << 20
_MOST_SHOWN = 1 << 20
_SHAPES = (("-O", "^metadata_csum,^64bit,^flex_bg"), ("-O", "metadata_csum,64bit"))


def change_any_file(data: bytes) -> None:
    """Numbers in the file system's metadata are changed; then the file is read, changed, and read again."""
    material = Material(data)
    content, blocks = _filesystem(material.number() % len(_SHAPES))
    device = MemoryDevice(content, writable=True)
    size = _BLOCK * material.number() if material.number() & 1 else 300_000
    for _ in range(_MOST_EDITS):
        if not material:
            break
        place = blocks[material.number() % len(blocks)]
        block = device.content[place : place + _BLOCK]
        patch(block, material.number(2) % _BLOCK, material)
        device.content[place : place + _BLOCK] = block
    crc = fastcrc.crc32.iscsi(bytes(device.content[1024 : 1024 + 0x3FC])) ^ 0xFFFFFFFF
    struct.pack_into("<I", device.content, 1024 + 0x3FC, crc)
    _show(device)
    allocate_file(device, _FILE, [(5000, size)], size, now=1)
    _show(device)
    truncate_file(device, _FILE, size // 2, now=1)
    _show(device)
    if device.bytes_read > _MOST_READ:
        raise PropertyError(f"{device.bytes_read} bytes are read of {_SIZE}")


def _show(device: MemoryDevice) -> None:
    file = open_ext4_file(device, _FILE)
    length = min(file.size, _MOST_SHOWN)
    if sum(size for _, size, _ in file.runs(0, length)) != length or len(file.read(0, length)) != length:
        raise PropertyError(f"the runs of {length} bytes do not cover them")


@cache
def _filesystem(shape: int) -> tuple[bytes, tuple[int, ...]]:
    """A file system whose file has an extent tree with a node of its own, and where its metadata lies."""
    with TemporaryDirectory() as directory:
        image, source = Path(directory, "image"), Path(directory, "source")
        with image.open("wb") as file:
            file.truncate(_SIZE)
        with source.open("wb") as file:
            for position in range(0, 120_000, 12_000):
                file.seek(position)
                file.write(b"data" * 1000)
        run_tool("mkfs.ext4", "-q", "-F", "-N", "32", "-b", str(_BLOCK), *_SHAPES[shape], image)
        write_in_pieces(image, 0, source, _FILE.decode(), pieces=20, piece=2 * _BLOCK)
        content = image.read_bytes()
        told = run_tool("debugfs", "-R", f"ex {_FILE.decode()}", image)
    node = int(next(line for line in told.splitlines() if line.strip().startswith("0/")).split()[7])
    device = MemoryDevice(content)
    open_ext4_file(device, _FILE)
    places = {offset - offset % _BLOCK for offset, _ in device.reads}
    return content, tuple(sorted({*places, node * _BLOCK, *range(_BLOCK, 8 * _BLOCK, _BLOCK)}))


def _edits() -> Iterator[bytes]:
    for shape in range(len(_SHAPES)):
        yield bytes([shape, 0])
        yield bytes([shape, 1, 200])
        for block in range(len(_filesystem(shape)[1])):
            yield bytes([shape, 0, block, 0x28, 0, 2, 1, 0, 0, 0])


TARGETS = (
    Target(
        "ext4_file",
        change_any_file,
        _edits,
        ("drypoint.disk.ext4",),
        (DiskImageError,),
        longest=256,
        tools=("mkfs.ext4", "debugfs"),
    ),
)
