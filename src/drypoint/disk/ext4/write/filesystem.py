"""An ext4 file system open for writing: inodes, bitmaps and checksums through libext2fs, data without it.

The library's block cache is off, because file data and directories are written directly to the image: a dirty block in the
library's cache could otherwise overwrite data that later took its place.

A device that is contiguous in a file is opened by the library itself, as a part of that file. Any other is read and written
through :class:`~drypoint.disk.ext4.write.io_manager.DeviceIo`, with a call into Python for each run of blocks.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....errors import DiskImageError, FilesystemError
from ...device import Device
from ...host.read_write import write_all
from . import bindings
from .bindings import Library, library
from .checksum import file_system_seed, inode_seed
from .file_io import FileIo
from .inode import InodeShape, NewInode, encode_inode, has_high_checksum, size_of, without_checksum
from .inode_table import InodeNumbers, InodeTable
from .io_manager import DeviceIo
from .superblock import Superblock, read_superblock
from .supported_features import COMPAT_EXT_ATTR, RO_COMPAT_LARGE_FILE

_SUPER_FREE_BLOCKS = 0x0C // 4
_SUPER_FREE_BLOCKS_HI = 0x158 // 4
_SUPER_FEATURE_COMPAT = 0x5C // 4
_SUPER_FEATURE_RO_COMPAT = 0x64 // 4
_MAX_RANGE = 1 << 30


class Ext4Filesystem:
    """An ext2, ext3 or ext4 file system on *device*, open for reading and writing from construction to close or abort.

    *now* (seconds since the epoch, at least 1) is the current time wherever the format has it, so that equal work gives equal
    bytes. Not thread-safe.

    Raises:
        FilesystemError: see :func:`~drypoint.disk.ext4.write.superblock.read_superblock`; or the library finds it damaged.
        DiskImageError: the image file cannot be opened for writing.
        ToolError: libext2fs is missing.
    """

    def __init__(self, device: Device, *, now: int) -> None:
        if not 0 < now < 1 << 32:
            raise ValueError("now is a number of seconds between 1 and 2**32 - 1")
        self._now = now
        self._library = library()
        self._ext2: Any = self._library.ext2
        self._ffi: Any = self._library.ffi
        self._short = self._library.short
        self._fs: Any = None
        self._fd = -1
        self._io: DeviceIo | FileIo | None = None
        self.open(device)

    # Opening and closing

    def open(self, device: Device) -> None:
        """Open it again after :meth:`close`; it may have grown or moved meanwhile."""
        if self._fs is not None:
            raise ValueError("the file system is open already")
        self._device = device
        self._location = device.location
        self._superblock = superblock = read_superblock(device)
        self._shape = InodeShape.of(superblock.inode_size, superblock.want_extra_isize)
        self._high_checksums = self._shape.extra_isize >= 4
        self.has_extents = superblock.extents
        try:
            if self._location is None:
                self._io = DeviceIo(self._library, device)
                self._fs = self._open_library(b"drypoint", self._ffi.NULL, self._io.manager)
            else:
                path, offset = self._location
                self._fd = self._open_file(path)
                options = b"offset=%d&cache=off" % offset
                # By its descriptor: the library would take what follows a question mark in a name for options.
                name = b"/proc/self/fd/%d" % self._fd
                self._fs = self._open_library(name, options, self._ext2.unix_io_manager)
            self.inode_numbers = InodeNumbers(self._library, self._fs, superblock, str(self))
            self._inode_table = InodeTable(self._library, self._fs, superblock)
        except BaseException:
            self._forget()
            raise
        self._checksum_seed = file_system_seed(superblock)

    @staticmethod
    def _open_file(path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise DiskImageError(f"cannot open {path} for writing: {error.strerror}") from error

    def _open_library(self, name: bytes, options: Any, io_manager: Any) -> Any:
        handle = self._ffi.new("ext2_filsys *")
        flags = bindings.EXT2_FLAG_RW | bindings.EXT2_FLAG_64BITS
        code = self._ext2.ext2fs_open2(name, options, flags, 0, 0, io_manager, handle)
        self.check(code, f"cannot open the file system in {self}")
        fs = handle[0]
        if self._location is not None:
            self._io = FileIo(self._library, fs.io, self._fd, self._location[1], str(self))
        try:
            if fs.blocksize != self._superblock.block_size:
                raise FilesystemError(f"libext2fs reads other facts from {self} than its superblock says")
            fs.now = self._now
            self.check(self._ext2.ext2fs_read_bitmaps(fs), f"cannot read the bitmaps of {self}")
        except BaseException:
            self._ext2.ext2fs_free(fs)
            raise
        return fs

    def close(self) -> None:
        """Write superblock, group descriptors and bitmaps, and close.

        Raises:
            FilesystemError: that failed; the file system is then inconsistent.
        """
        if self._fs is None:
            return
        self.inode_numbers.mark()
        unwritten = self._inode_table.flush()
        fs, self._fs = self._fs, None
        code = unwritten or self._ext2.ext2fs_close2(fs, bindings.EXT2_FLAG_FLUSH_NO_SYNC)
        if code:
            self._ext2.ext2fs_free(fs)
        try:
            # Also errors that the library ignored: they are raised at the end at the latest.
            self.check(code, f"cannot write the bitmaps and descriptors of {self}")
            if self._io is not None:
                self._io.raise_failure()
        finally:
            self._forget()

    def abort(self) -> None:
        """Close without writing what is pending. Earlier writes stay, so the file system is inconsistent."""
        if self._fs is not None:
            fs, self._fs = self._fs, None
            self._ext2.ext2fs_free(fs)
        self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._io = None

    def __str__(self) -> str:
        return self._device.name

    def check(self, code: int, doing: str) -> None:
        """Raise an error for an error code of the library, or the device's exception that caused it.

        Raises:
            FilesystemError: *code* is not 0; the message starts with *doing*.
            DiskImageError: *code* is not 0 because of the device.
        """
        if code:
            if self._io is not None:
                self._io.raise_failure()
            self._library.check(code, doing)

    @property
    def library(self) -> Library:
        """The library; for this package only."""
        return self._library

    @property
    def handle(self) -> Any:
        """The library's handle, after pending inodes are written; for this package only."""
        self._flush_inodes()
        return self._fs

    def _flush_inodes(self) -> None:
        code = self._inode_table.flush()
        if code:
            self.check(code, f"cannot write inodes of {self}")

    # Facts

    @property
    def superblock(self) -> Superblock:
        """The superblock, as read when it was opened."""
        return self._superblock

    @property
    def shape(self) -> InodeShape:
        """The shape of new inodes."""
        return self._shape

    @property
    def now(self) -> int:
        """The current time for the format, in seconds since the epoch."""
        return self._now

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self._superblock.block_size

    @property
    def blocks_count(self) -> int:
        """All blocks, used and free."""
        return self._superblock.blocks_count

    @property
    def inodes_count(self) -> int:
        """All inodes, used and free."""
        return self._superblock.inodes_count

    @property
    def free_blocks(self) -> int:
        """Free blocks, including those reserved for root."""
        words = self._fs.super
        high = words[_SUPER_FREE_BLOCKS_HI] if self._superblock.wide else 0
        return int(high << 32 | words[_SUPER_FREE_BLOCKS])

    @property
    def free_inodes(self) -> int:
        """Free inodes."""
        return self.inode_numbers.free

    # Checksums

    def inode_checksum_seed(self, ino: int, generation: int = 0) -> int:
        """The seed of the checksums of an inode's blocks."""
        return inode_seed(self._checksum_seed, ino, generation)

    def dirhash(self, names: list[bytes]) -> Iterator[tuple[int, int, bytes]]:
        """Major hash, minor hash and name of each of *names*, for directory indexes of this file system."""
        superblock = self._superblock
        assert superblock.hash_version is not None
        major, minor = ctypes.c_uint32(), ctypes.c_uint32()
        hash_name, version, seed = self._short.ext2fs_dirhash, superblock.hash_version, superblock.hash_seed
        for name in names:
            code = hash_name(version, name, len(name), seed, major, minor)
            if code:
                self.check(code, "cannot hash a name")
            yield major.value, minor.value, name

    # Inodes

    def read_inode(self, ino: int) -> bytes:
        """The whole inode.

        Raises:
            FilesystemError: it cannot be read, or its checksum is wrong.
        """
        self._flush_inodes()
        size = self._superblock.inode_size
        buffer = bytearray(size)
        code = self._ext2.ext2fs_read_inode_full(self._fs, ino, self._ffi.from_buffer(buffer), size)
        if code:
            self.check(code, f"cannot read inode {ino} of {self}")
        return bytes(buffer)

    def write_inode(self, ino: int, raw: bytes) -> None:
        """Write the whole inode *raw*, with its checksum.

        An error may only be raised when the next inode is written or read, or the file system is closed.
        """
        if self._superblock.metadata_csum:
            raw = without_checksum(raw)
        code = self._inode_table.put(ino, raw, high=has_high_checksum(raw))
        if code:
            self.check(code, f"cannot write inode {ino} of {self}")

    def write_new_inode(self, ino: int, inode: NewInode) -> None:
        """Write an inode with a number from :attr:`inode_numbers`."""
        raw = encode_inode(self._shape, inode, self._now)
        code = self._inode_table.put(ino, raw, high=self._high_checksums)
        if code:
            self.check(code, f"cannot write inode {ino} of {self}")

    # Blocks

    def find_free_run(self, goal: int, longest: int) -> tuple[int, int] | None:
        """The first free block from *goal* on, and the length of its free run, at most *longest*; None if there is none."""
        last = self.blocks_count - 1
        found = self._ffi.new("uint64_t *")
        code = self._ext2.ext2fs_find_first_zero_generic_bmap(self._fs.block_map, goal, last, found)
        if code == errno.ENOENT:
            return None
        self.check(code, f"cannot search the block bitmap of {self}")
        start = int(found[0])
        end = min(start + longest - 1, last)
        code = self._ext2.ext2fs_find_first_set_generic_bmap(self._fs.block_map, start, end, found)
        if code == errno.ENOENT:
            return start, end - start + 1
        self.check(code, f"cannot search the block bitmap of {self}")
        return start, int(found[0]) - start

    def mark_blocks(self, start: int, count: int, *, used: bool) -> None:
        """Mark a run of blocks as used or free, in the bitmap and all counts."""
        while count:
            part = min(count, _MAX_RANGE)
            self._ext2.ext2fs_block_alloc_stats_range(self._fs, start, part, 1 if used else -1)
            start += part
            count -= part

    def has_blocks(self, raw: bytes) -> bool:
        """Whether i_block of the inode *raw* is a block map, and not a device number or short link."""
        return bool(self._ext2.ext2fs_inode_has_valid_blocks2(self._fs, self._ffi.from_buffer(raw)))

    def punch(self, ino: int, raw: bytes) -> bytes:
        """Free all data blocks of inode *ino*, whose bytes are *raw*; returns the inode afterwards.

        Raises:
            FilesystemError: its block map is damaged.
        """
        buffer = bytearray(raw)
        code = self._ext2.ext2fs_punch(
            self.handle, ino, self._ffi.from_buffer(buffer), self._ffi.NULL, 0, (1 << 64) - 1
        )
        self.check(code, f"cannot free the blocks of inode {ino} of {self}")
        return bytes(buffer)

    def free_xattr_block(self, ino: int, raw: bytes) -> bytes:
        """Drop the reference of inode *ino* to its xattr block; returns the inode without it, not written yet.

        Raises:
            FilesystemError: the block cannot be read.
        """
        buffer = bytearray(raw)
        code = self._ext2.ext2fs_free_ext_attr(self.handle, ino, self._ffi.from_buffer(buffer))
        self.check(code, f"cannot free the extended attributes of inode {ino} of {self}")
        return bytes(buffer)

    def write_blocks(self, start: int, parts: list[bytes | bytearray | memoryview]) -> None:
        """Write *parts*, one after the other, at block *start*, directly to the image.

        Raises:
            DiskImageError: the image file cannot be written.
        """
        position = start * self.block_size
        if self._location is None:
            for part in parts:
                self._device.write(position, part)
                position += len(part)
            return
        position += self._location[1]
        try:
            written = os.pwritev(self._fd, parts, position)
            if written < sum(map(len, parts)):
                write_all(self._fd, memoryview(b"".join(parts))[written:], position + written)
        except OSError as error:
            raise DiskImageError(f"cannot write to {self}: {error.strerror}") from error

    def directory_blocks(self, ino: int, raw: bytes) -> Iterator[bytes]:
        """The blocks of directory *ino*, whose inode is *raw*, in order; checksums are verified.

        Raises:
            FilesystemError: the directory is damaged.
        """
        # The checksums of its blocks depend on the inode, which the library reads itself.
        self._flush_inodes()
        inode = self._ffi.from_buffer(bytearray(raw))
        physical = self._ffi.new("blk64_t *")
        block = bytearray(self.block_size)
        for logical in range(-(-size_of(raw) // self.block_size)):
            code = self._ext2.ext2fs_bmap2(self._fs, ino, inode, self._ffi.NULL, 0, logical, self._ffi.NULL, physical)
            self.check(code, f"cannot map block {logical} of directory inode {ino} of {self}")
            if not physical[0]:
                raise FilesystemError(f"directory inode {ino} of {self} has a hole at block {logical}; run e2fsck -f")
            code = self._ext2.ext2fs_read_dir_block4(self._fs, physical[0], self._ffi.from_buffer(block), 0, ino)
            self.check(code, f"cannot read block {logical} of directory inode {ino} of {self}")
            yield bytes(block)

    # Features for what is written

    def note_xattrs(self) -> None:
        """Set the feature for extended attributes."""
        self._set_feature(_SUPER_FEATURE_COMPAT, COMPAT_EXT_ATTR)

    def note_large_file(self) -> None:
        """Set the feature for files of 2 GiB or more."""
        self._set_feature(_SUPER_FEATURE_RO_COMPAT, RO_COMPAT_LARGE_FILE)

    def _set_feature(self, word: int, bit: int) -> None:
        if not self._fs.super[word] & bit:
            self._fs.super[word] |= bit
            self._fs.flags |= bindings.EXT2_FLAG_DIRTY | bindings.EXT2_FLAG_CHANGED
