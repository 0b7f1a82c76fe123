"""Block maps: which blocks of a disk image have to be written to a card, and their checksums, for bmaptool.

Format: version 2.0 of the XML file of bmap-tools (Documentation in its BmapCreate.py and BmapCopy.py).

bmaptool leaves what is not mapped as it was on the card. A hole is therefore left out only where a file system says that
its blocks are free: elsewhere its zeros matter, as those of files, of inode tables, or of a boot loader's settings.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from io import BufferedRandom
from pathlib import Path

from ...errors import DiskImageError, OutputError
from ...printable import printable
from ..copy import data_extents
from ..device import FileDevice
from ..scratch import path_of
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
    """Write to *path*, an empty file or none, the block map of a disk image, the first *size* bytes of a file.

    It serves the disk image in any format: bmaptool unpacks what it copies.

    Args:
        source_fd: the disk image, raw, open for reading.
        image_name: what a comment in the map calls it.

    Raises:
        DiskImageError: the disk image is empty, or cannot be read.
        OutputError: *path* cannot be written. Its cause is the OSError.
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
    """The (start, end) bytes that have to be written, in order; starts, and ends but for the last, are those of blocks."""
    place = 0
    for start, end in _common(_holes(fd, size), free):
        first = _blocks(start) * BLOCK_SIZE
        until = end if end == size else end // BLOCK_SIZE * BLOCK_SIZE
        if first >= until:
            continue
        if place < first:
            yield place, first
        place = until
    if place < size:
        yield place, size


def _holes(fd: int, size: int) -> Iterator[_Range]:
    place = 0
    for start, length in data_extents(fd, 0, size):
        if place < start:
            yield place, start
        place = start + length
    if place < size:
        yield place, size


def _common(these: Iterator[_Range], those: Iterator[_Range]) -> Iterator[_Range]:
    """What lies both in *these* and in *those* ranges, each of them in order."""
    one, other = next(these, None), next(those, None)
    while one is not None and other is not None:
        start, end = max(one[0], other[0]), min(one[1], other[1])
        if start < end:
            yield start, end
        if one[1] <= other[1]:
            one = next(these, None)
        else:
            other = next(those, None)


def _checksum(fd: int, start: int, end: int) -> str:
    """The SHA-256 of a range, whose holes are not read."""
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
    """A name as a comment may hold it: nothing unprintable, and no two hyphens in a row."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace")).replace("--", "-\u2010")
