"""A check that the files of a FAT file system share no clusters, so that changing one changes no other.

mtools follows the chains of clusters as they are, and so writes into a file that shares clusters with the one that it
replaces. Format: Microsoft's "FAT: General Overview of On-Disk Format" 1.03.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import FilesystemError
from ..device import Device
from .allocation_table import FatTable, damaged

_MAX_TABLE = 64 << 20
_ENTRY = 32
_FIRST = 2
_DELETED, _END = 0xE5, 0
_DIRECTORY, _LABEL = 0x10, 0x08
_DOTS = (b".          ", b"..         ")


def check_chains(device: Device, table: FatTable) -> None:
    """Check, in all directories, that every chain of clusters is complete and not shared.

    Clusters that belong to no file are harmless. Time and memory are bounded by the table's size.

    Raises:
        FilesystemError: a chain leads nowhere, has a cycle, is too short for its file, or is shared.
        DiskImageError: the device cannot be read.
    """
    if table.size > _MAX_TABLE:
        raise FilesystemError(
            f"{device.name}: a FAT file system with a table of {table.size} bytes is too large to be checked before a change"
        )
    _Walk(device, table).run()


class _Walk:
    def __init__(self, device: Device, table: FatTable) -> None:
        self._device = device
        self._table = table
        self._entries = device.read(table.offset, table.size)
        self._mask = (1 << min(table.entry_bits, 28)) - 1
        self._owned = bytearray(-(-(table.clusters + _FIRST) // 8))

    def run(self) -> None:
        table = self._table
        if table.root_cluster:
            contents = [self._clusters(self._chain(table.root_cluster))]
        else:
            contents = [iter((self._device.read(table.root_offset, table.root_size),))]
        while contents:
            for entry in _entries(contents.pop()):
                first = int.from_bytes(entry[26:28], "little")
                if table.root_cluster:
                    first |= int.from_bytes(entry[20:22], "little") << 16
                if entry[11] & _DIRECTORY:
                    contents.append(self._clusters(self._chain(first)))
                else:
                    self._check_file(first, int.from_bytes(entry[28:32], "little"))

    def _check_file(self, first: int, size: int) -> None:
        length = len(self._chain(first)) if first else 0
        if length < self._table.clusters_for(size):
            raise damaged(self._device, f"a file of {size} bytes has only {length} clusters")

    def _chain(self, first: int) -> list[int]:
        """The clusters from *first* on; refused if another chain has one of them."""
        chain: list[int] = []
        cluster = first
        # A chain ends at 0xFF8 and above (FAT12), 0xFFF8 (FAT16), 0x0FFFFFF8 (FAT32).
        while cluster < self._mask - 7 or not chain:
            if not _FIRST <= cluster < self._table.clusters + _FIRST:
                raise damaged(self._device, f"a chain of clusters leads to number {cluster}, which is none")
            place, bit = cluster >> 3, 1 << (cluster & 7)
            if self._owned[place] & bit:
                raise damaged(self._device, f"cluster {cluster} belongs to two files, or twice to one")
            self._owned[place] |= bit
            chain.append(cluster)
            cluster = self._next(cluster)
        return chain

    def _next(self, cluster: int) -> int:
        bits = cluster * self._table.entry_bits
        start = bits // 8
        width = 4 if self._table.root_cluster else 2
        # An odd entry of FAT12 starts in the middle of a byte.
        return int.from_bytes(self._entries[start : start + width], "little") >> bits % 8 & self._mask

    def _clusters(self, chain: list[int]) -> Iterator[bytes]:
        for cluster in chain:
            offset = self._table.data_offset + (cluster - _FIRST) * self._table.cluster_size
            yield self._device.read(offset, self._table.cluster_size)


def _entries(contents: Iterator[bytes]) -> Iterator[bytes]:
    """The entries of a directory that own clusters: not parts of long names, labels, ``.`` or ``..``."""
    for content in contents:
        for start in range(0, len(content) - _ENTRY + 1, _ENTRY):
            entry = content[start : start + _ENTRY]
            if entry[0] == _END:
                return
            if entry[0] != _DELETED and not entry[11] & _LABEL and entry[:11] not in _DOTS:
                yield entry
