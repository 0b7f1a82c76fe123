"""The blocks of a file system, with checked bounds, and a small cache that threads may share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from ....errors import FilesystemError
from ...device import Device
from .groups import Group, descriptor_block, parse_group
from .superblock_fields import SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE
from .superblocks import Superblock, parse_superblock

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

_GROUPS_CACHED = 4096


class Cache(Generic[_Key, _Value]):
    """The values used last, up to a total weight. The newest value stays, whatever its weight."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._entries: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> _Value | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: _Key, value: _Value, weight: int = 1) -> None:
        with self._lock:
            replaced = self._entries.pop(key, None)
            if replaced is not None:
                self._total -= replaced[1]
            self._entries[key] = (value, weight)
            self._total += weight
            while self._total > self._limit and len(self._entries) > 1:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._total -= dropped


class Volume:
    """The blocks of one file system."""

    def __init__(self, device: Device) -> None:
        self.name = device.name
        if device.size < SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE:
            raise FilesystemError(f"{self.name} is too small to hold a file system: it has {device.size} bytes")
        raw = device.read(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE)
        self.superblock: Superblock = parse_superblock(raw, device.size, self.name)
        self._device = device
        self._groups: Cache[int, Group] = Cache(_GROUPS_CACHED)

    def read(self, block: int, count: int, owner: str) -> bytes:
        """*count* blocks from *block* on, which *owner* points to.

        Raises:
            FilesystemError: they lie outside the file system.
        """
        superblock = self.superblock
        if not superblock.first_data_block <= block <= superblock.blocks_count - count:
            raise self.damage(owner, f"it points to blocks {block} to {block + count - 1} of {superblock.blocks_count}")
        return self._device.read(block * superblock.block_size, count * superblock.block_size)

    def group(self, number: int) -> Group:
        """The descriptor of group *number*, from 0 to below ``superblock.groups_count``."""
        found = self._groups.get(number)
        if found is not None:
            return found
        superblock = self.superblock
        size = superblock.descriptor_size
        index, position = divmod(number, superblock.block_size // size)
        table = self.read(descriptor_block(superblock, index), 1, "the group descriptor table")
        group = parse_group(superblock, number, table[position * size : (position + 1) * size], self.name)
        self._groups.put(number, group)
        return group

    def groups(self) -> Iterator[Group]:
        """Every group's descriptor, in order."""
        return map(self.group, range(self.superblock.groups_count))

    def damage(self, what: str, why: str) -> FilesystemError:
        """The error for damage: *what* is damaged, and *why* it counts as damaged."""
        return FilesystemError(f"{what} of the file system on {self.name} is damaged: {why}; e2fsck may repair it")
