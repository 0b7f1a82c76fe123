"""Block maps: which blocks of a disk image have to be written to a card, and their checksums, for bmaptool.

Format: version 2.0 of the XML file of bmap-tools (Documentation in its BmapCreate.py and BmapCopy.py).

bmaptool does not write blocks that are not mapped: the card keeps what it held. So zeros are left out only where a file system
says that the blocks are free: elsewhere they matter, as in files, inode tables, or a boot loader's settings.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from io import BufferedRandom
from pathlib import Path

from ...errors import DiskImageError, OutputError
from ...text import printable
from ..device import FileDevice
from ..host.copies import data_extents
from ..host.scratch import path_of
from .free_space import free_ranges
from .sparse import read_exactly

BLOCK_SIZE = 4096
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_Range = tuple[int, int]

_HEAD = """<?xml version="1.0" ?>
<!-- The blocks of {name} that have to be written; what the others hold does not matter. -->
<bmap version="2.0">
    <ImageSize> {size} </ImageSize>
    <BlockSize> {block_size} </BlockSize>
    <BlocksCount> {blocks} </BlocksCount>
    <MappedBlocksCount> """
_MIDDLE = """ </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <!-- Of this file, with zeros in the place of this checksum. -->
    <BmapFileChecksum> """
_BODY = """ </BmapFileChecksum>
    <BlockMap>
"""
_END = """    </BlockMap>
</bmap>
"""


def write_block_map(source_fd: int, size: int, image_name: str, path: Path) -> None:
    """Write the block map of a disk image, the first *size* bytes of a file, to *path*, which is empty or does not exist.

    It is valid for the disk image in any compression, because bmaptool decompresses while it copies.

    Args:
        source_fd: the disk image, raw, open for reading.
        image_name: its name in a comment in the map.

    Raises:
        DiskImageError: the disk image is empty, or cannot be read.
        OutputError: *path* cannot be written; its cause is the OSError.
    """
    if not size:
        raise DiskImageError(f"{image_name} is empty: there is nothing to map")
    try:
        with path.open("w+b") as file, FileDevice(path_of(source_fd), name=image_name) as device:
            _write(file, source_fd, size, image_name, _mapped(source_fd, size, free_ranges(device)))
    except OSError as error:
        raise OutputError(f"cannot write the block map of {image_name}: {error.strerror}") from error


def _write(file: BufferedRandom, source_fd: int, size: int, name: str, mapped: Iterable[_Range]) -> None:
    blocks = _blocks(size)
    head = _HEAD.format(name=_in_comment(name), size=size, block_size=BLOCK_SIZE, blocks=blocks)
    file.write(head.encode())
    count_at = file.tell()
    file.write(b" " * len(str(blocks)) + _MIDDLE.encode())
    checksum_at = file.tell()
    file.write(b"0" * 64 + _BODY.encode())
    count = 0
    for start, end in mapped:
        first, last = start // BLOCK_SIZE, _blocks(end) - 1
        count += last - first + 1
        blocks_named = f"{first}-{last}" if last > first else f"{first}"
        line = f'        <Range chksum="{_checksum(source_fd, start, end)}"> {blocks_named} </Range>\n'
        file.write(line.encode())
    file.write(_END.encode())
    file.seek(count_at)
    file.write(str(count).encode())
    file.seek(0)
    whole = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(checksum_at)
    file.write(whole.encode())


def _mapped(fd: int, size: int, free: Iterator[_Range]) -> Iterator[_Range]:
    """The (start, end) byte ranges to be written, in order, aligned to blocks except for the last end."""
    place = 0
    for start, end in _zeros(fd, size, free):
        if place < start:
            yield place, start
        place = end
    if place < size:
        yield place, size


def _zeros(fd: int, size: int, free: Iterator[_Range]) -> Iterator[_Range]:
    """The blocks of the *free* ranges that hold zeros.

    Whether they are holes of the file does not matter, so that the map depends on the disk image's bytes alone: for blocks
    that were allocated and never written, the answer of SEEK_DATA depends on the page cache.
    """
    for free_start, free_end in free:
        place = _blocks(free_start) * BLOCK_SIZE
        last = free_end if free_end == size else free_end // BLOCK_SIZE * BLOCK_SIZE
        for start, length in data_extents(fd, place, max(place, last)):
            for chunk in range(start // BLOCK_SIZE * BLOCK_SIZE, start + length, _CHUNK):
                content = read_exactly(fd, chunk, min(_CHUNK, last - chunk))
                for offset in range(0, len(content), BLOCK_SIZE):
                    block = content[offset : offset + BLOCK_SIZE]
                    if block != _ZEROS[: len(block)]:
                        if place < chunk + offset:
                            yield place, chunk + offset
                        place = chunk + offset + len(block)
        if place < last:
            yield place, last


def _checksum(fd: int, start: int, end: int) -> str:
    """The SHA-256 of a range; holes are not read."""
    found = hashlib.sha256()
    place = start
    for offset, length in data_extents(fd, start, end):
        _hash_zeros(found, offset - place)
        for chunk in range(offset, offset + length, _CHUNK):
            found.update(read_exactly(fd, chunk, min(_CHUNK, offset + length - chunk)))
        place = offset + length
    _hash_zeros(found, end - place)
    return found.hexdigest()


def _hash_zeros(found: hashlib._Hash, length: int) -> None:
    for done in range(0, length, _CHUNK):
        found.update(_ZEROS[: min(_CHUNK, length - done)])


def _blocks(size: int) -> int:
    return -(-size // BLOCK_SIZE)


def _in_comment(name: str) -> str:
    """A name that is valid in a comment: printable, without two hyphens in a row."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace")).replace("--", "-\u2010")
