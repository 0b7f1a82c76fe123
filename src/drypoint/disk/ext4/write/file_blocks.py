"""Changing the size of an existing file, and giving blocks to its holes, without moving its data.

The extent tree is built again from the list of extents, as for a new file: so there is no insertion, and equal extents give
an equal tree. Until the inode is written nothing refers to the new blocks, so that running out of blocks changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from ....errors import FilesystemError
from ....fstree import Regular
from ...clear import clear
from ...device import Device
from ..read.file_device import MAX_EXTENTS
from ..read.reader import Ext4Reader
from .allocation import BlockAllocator
from .extent_walk import TreeRun, walk_extents
from .filesystem import Ext4Filesystem
from .inode import (
    EXT4_EXTENTS_FL,
    EXT4_HUGE_FILE_FL,
    NSEC_PER_SEC,
    flags_of,
    generation_of,
    replace_content,
    replace_metadata,
    sectors_of,
    size_of,
)
from .mapping import Extent, Owner, map_blocks

_LARGE_FILE = 1 << 31

Range = tuple[int, int]
"""Offset and length in a file, in bytes."""


def allocate_file(device: Device, path: bytes, ranges: Sequence[Range], size: int, *, now: int) -> None:
    """Make the file at *path* of the file system on *device* *size* bytes long, and give blocks to the holes in *ranges*.

    New bytes read as zeros. A file never gets shorter. Unwritten extents become written ones. The modification time becomes
    *now*, in seconds.

    Args:
        ranges: in order and disjoint; they are extended to whole blocks.

    Raises:
        NoSpaceError: there are not enough free blocks; then nothing is changed.
        FilesystemError: there is no such file, or it has a block map instead of extents.
    """
    _change(device, path, ranges, lambda old: max(size, old), now)


def truncate_file(device: Device, path: bytes, size: int, *, now: int) -> None:
    """Truncate the file at *path* of the file system on *device* to *size* bytes; it never gets longer.

    Blocks after that become free. The modification time becomes *now*, in seconds.

    Raises:
        FilesystemError: as :func:`allocate_file`.
    """
    _change(device, path, (), lambda old: min(size, old), now)


def _change(device: Device, path: bytes, ranges: Sequence[Range], new_size: Callable[[int], int], now: int) -> None:
    ino, entry = _find(device, path)
    filesystem = Ext4Filesystem(device, now=now)
    try:
        raw = filesystem.read_inode(ino)
        if not flags_of(raw) & EXT4_EXTENTS_FL or not filesystem.superblock.extents:
            raise FilesystemError(
                f"{path!r} in {device.name} is mapped without extents, and so can neither grow nor get blocks for its holes"
            )
        raw = _mapped_anew(filesystem, device, ino, raw, ranges, new_size(size_of(raw)))
        metadata = entry.metadata
        mode, owner = metadata.mode, (metadata.uid, metadata.gid)
        filesystem.write_inode(ino, replace_metadata(raw, mode, *owner, now * NSEC_PER_SEC, now))
        filesystem.close()
    finally:
        filesystem.abort()


def _find(device: Device, path: bytes) -> tuple[int, Regular]:
    stat = Ext4Reader(device).lookup(path)
    if stat is None or not isinstance(stat.entry, Regular):
        raise FilesystemError(f"there is no regular file {path!r} in {device.name}")
    return stat.inode, stat.entry


def _mapped_anew(
    filesystem: Ext4Filesystem, device: Device, ino: int, raw: bytes, ranges: Sequence[Range], size: int
) -> bytes:
    """The inode with the new size and the missing blocks of *ranges*, not written yet."""
    block_size = filesystem.block_size
    tree, nodes = _read_tree(walk_extents(filesystem, ino, raw), f"inode {ino} of {filesystem}")
    data, dropped = _cut(tree, -(-size // block_size)) if size < size_of(raw) else (tree, [])
    allocator = BlockAllocator(filesystem)
    added = _take(allocator, _gaps(data, _in_blocks(ranges, block_size)))
    for start, length in _stale(data, added, min(size, size_of(raw)), block_size):
        clear(device, start, length)
    extents = sorted([Extent(run.logical, run.physical, run.length) for run in data] + added)
    mapping = map_blocks(filesystem, Owner(ino, generation_of(raw)), extents, allocator.take)
    allocator.release()
    # After the new nodes have their blocks: they are written at once, while the old tree is still valid.
    for run in (*nodes, *dropped):
        filesystem.mark_blocks(run.physical, run.length, used=False)
    # i_blocks of a huge file counts file-system blocks, that of all others units of 512 bytes.
    unit = 1 if flags_of(raw) & EXT4_HUGE_FILE_FL else block_size // 512
    gained = sum(extent.length for extent in added) + mapping.overhead
    lost = sum(run.length for run in (*nodes, *dropped))
    if size >= _LARGE_FILE:
        filesystem.note_large_file()
    return replace_content(raw, size, sectors_of(raw) + (gained - lost) * unit, flags_of(raw), mapping.block)


def _cut(tree: Sequence[TreeRun], blocks: int) -> tuple[list[TreeRun], list[TreeRun]]:
    """The runs of the first *blocks* blocks of the file, and the others."""
    kept: list[TreeRun] = []
    dropped: list[TreeRun] = []
    for run in tree:
        inside = min(max(blocks - run.logical, 0), run.length)
        if inside:
            kept.append(run._replace(length=inside))
        if inside < run.length:
            dropped.append(
                run._replace(logical=run.logical + inside, physical=run.physical + inside, length=run.length - inside)
            )
    return kept, dropped


def _read_tree(runs: Iterable[TreeRun], owner: str) -> tuple[list[TreeRun], list[TreeRun]]:
    data: list[TreeRun] = []
    nodes: list[TreeRun] = []
    for run in runs:
        (nodes if run.is_node else data).append(run)
        if len(data) + len(nodes) > MAX_EXTENTS:
            raise FilesystemError(f"{owner} has more than {MAX_EXTENTS} extents")
    if any(left.logical + left.length > right.logical for left, right in pairwise(data)):
        raise FilesystemError(f"the extents of {owner} overlap; run e2fsck -f")
    return data, nodes


def _in_blocks(ranges: Sequence[Range], block_size: int) -> list[Range]:
    """First block and count of each range; a block that two ranges share counts once."""
    found: list[Range] = []
    for offset, length in ranges:
        first, end = offset // block_size, -(-(offset + length) // block_size)
        if found:
            first = max(first, sum(found[-1]))
        if first < end:
            found.append((first, end - first))
    return found


def _gaps(data: Sequence[TreeRun], wanted: Sequence[Range]) -> list[Range]:
    """First block and count of the *wanted* ranges that have no blocks."""
    gaps: list[Range] = []
    index = 0
    for first, count in wanted:
        position, end = first, first + count
        while index < len(data) and data[index].logical + data[index].length <= position:
            index += 1
        while position < end:
            start = data[index].logical if index < len(data) else end
            if position < start:
                gaps.append((position, min(start, end) - position))
            if start >= end:
                break
            position = start + data[index].length
            index += position <= end
    return gaps


def _take(allocator: BlockAllocator, gaps: Sequence[Range]) -> list[Extent]:
    added: list[Extent] = []
    left = sum(count for _, count in gaps)
    for first, count in gaps:
        position, end = first, first + count
        while position < end:
            start, got = allocator.take(end - position, left)
            added.append(Extent(position, start, got))
            position += got
            left -= got
    return added


def _stale(data: Sequence[TreeRun], added: Sequence[Extent], size: int, block_size: int) -> Iterator[Range]:
    """Offset and length on the device of what must become zeros: new and unwritten blocks, and bytes after the end."""
    for extent in added:
        yield extent.physical * block_size, extent.length * block_size
    for run in data:
        start, length = run.physical * block_size, run.length * block_size
        kept = min(max(size - run.logical * block_size, 0), length) if run.written else 0
        if kept < length:
            yield start + kept, length - kept
