"""Small regular files and short symbolic links into an ext4 file system: the compiled lane of drypoint.sinks.ext4.

All state stays in the twin's objects (sink, allocator, run writer, inode numbers and table, open directories) and is read and
written there, private fields too: a change of those is a change of this module. What would need a reservation, growth, another
block of the inode table that cannot be read, or an error, is declined before anything is changed.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memchr, memcmp, memcpy, memset

from ..disk.ext4.write.content import BUFFER_BYTES, HOLE_BYTES
from ..disk.ext4.write.directory import FT_REGULAR, FT_SYMLINK, NAME_MAX
from ..disk.ext4.write.inode import S_IFLNK, S_IFREG, NewInode, encode_inode
from ..disk.ext4.write.mapping import overhead_bound
from ..fstree import Regular, Symlink


cdef extern from "crc32c.h" nogil:
    void crc32c_prepare()
    uint32_t crc32c(uint32_t seed, const unsigned char *data, size_t count)

cdef extern from "little_endian.h" nogil:
    void put_16(unsigned char *at, uint16_t value)
    void put_32(unsigned char *at, uint32_t value)

crc32c_prepare()

cdef enum:
    SLOTS = 256
    MOST_BLOCKS = 64
    MARGIN = 32
    TARGET_MAX = 59
    # Where an inode has what differs from file to file.
    SIZE = 4
    SECTORS = 28
    BLOCK = 40
    CHECKSUM_LOW = 124
    CHECKSUM_HIGH = 130
    EXTENT_MAGIC = 0xF30A

cdef Py_ssize_t hole_bytes = HOLE_BYTES
cdef Py_ssize_t buffer_bytes = BUFFER_BYTES
cdef Py_ssize_t name_max = NAME_MAX
cdef object regular_type = FT_REGULAR
cdef object symlink_type = FT_SYMLINK


cdef class PlainFiles:
    """Adds entries to one sink. See the stub."""

    cdef object _sink, _fs, _allocator, _writer, _directories, _meter, _table, _numbers
    cdef dict _by_path
    cdef bytes _prefix, _parent_path
    cdef bint _active, _checksums, _high
    cdef Py_ssize_t _block_size, _inode_size, _per_group
    cdef uint32_t _seed
    cdef list _metadata
    cdef list _frames
    cdef Py_ssize_t[65] _bounds
    # Held while the lane lives, as nothing resizes them.
    cdef bytearray _blocks, _inodes

    def __init__(self, sink, fs, allocator, writer, directories, meter, bytes prefix not None):
        self._sink, self._fs, self._allocator, self._writer = sink, fs, allocator, writer
        self._directories, self._meter, self._prefix = directories, meter, prefix
        self._by_path = directories._by_path
        self._blocks = writer._buffer.obj
        self._parent_path = b""
        self._bind()

    cdef _bind(self):
        """The file system was opened, or once more."""
        cdef Py_ssize_t blocks
        fs = self._fs
        self._table, self._numbers = fs._inode_table, fs.inode_numbers
        self._inodes = self._table._buffer
        self._block_size, self._inode_size = fs.block_size, fs.shape.size
        self._per_group = self._numbers._per_group
        self._checksums = self._table._seed is not None
        self._seed = self._table._seed or 0
        self._high = fs._high_checksums
        self._active = fs.has_extents
        self._metadata, self._frames = [None] * (2 * SLOTS), [None] * (2 * SLOTS)
        for blocks in range(MOST_BLOCKS + 1):
            self._bounds[blocks] = blocks + overhead_bound(fs, blocks, blocks) + MARGIN

    def add(self, entry, content):
        cdef type kind = type(entry)
        cdef bytes target
        if kind is Regular:
            if type(content) is not tuple and type(content) is not list or len(content) != 1:
                return False
            return self._add(entry, entry.metadata, entry.size, content[0], None)
        if kind is Symlink and content is None:
            target = entry.target
            if not 0 < PyBytes_GET_SIZE(target) <= TARGET_MAX or memchr(PyBytes_AS_STRING(target), 0, PyBytes_GET_SIZE(target)):
                return False
            return self._add(entry, entry.metadata, PyBytes_GET_SIZE(target), None, target)
        return False

    cdef bint _add(self, entry, metadata, Py_ssize_t size, data, bytes target) except -1:
        cdef bytes name
        cdef Py_ssize_t blocks = 0
        cdef int64_t left
        cdef Py_ssize_t ino
        cdef Py_buffer view
        if self._fs._inode_table is not self._table:
            self._bind()
        if not self._active or metadata.xattrs:
            return False
        if target is None:
            if not 0 <= size < hole_bytes:
                return False
            blocks = (size + self._block_size - 1) // self._block_size
        directory, name = self._place(entry.path)
        if directory is None:
            return False
        left = <int64_t>self._allocator.free_blocks - <int64_t>self._directories.reserved_blocks - self._bounds[blocks]
        if left < 0 or <Py_ssize_t>self._allocator.left < blocks:
            return False
        ino = self._next_inode()
        if not ino:
            return False
        frame = self._frame(metadata, target is not None)
        if frame is None:
            return False
        if target is None:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                if view.len != size:
                    return False
                # Nothing is declined from here on.
                self._store(ino, frame, size, blocks, <const unsigned char *>view.buf)
            finally:
                PyBuffer_Release(&view)
        else:
            self._write_inode(ino, frame, size, 0, <const unsigned char *>PyBytes_AS_STRING(target), size)
        if left < <int64_t>self._meter.lowest:
            self._meter.lowest = left
        self._numbers._next = ino + 1
        self._numbers.free = <Py_ssize_t>self._numbers.free - 1
        self._sink._near = ino
        self._link(directory, name, ino, symlink_type if target is not None else regular_type)
        return True

    cdef tuple _place(self, bytes relative):
        """The open directory that is to hold the path, and the name in it; None if the twin has to look."""
        cdef bytes path = self._prefix + relative if self._prefix else relative
        cdef const char *text = PyBytes_AS_STRING(path)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(path)
        cdef Py_ssize_t start = length
        cdef Py_ssize_t above
        cdef bytes name
        while start and text[start - 1] != 47:  # "/"
            start -= 1
        if not 0 < length - start <= name_max or memchr(text + start, 0, length - start):
            return None, None
        if text[start] == 46 and (length - start == 1 or (length - start == 2 and text[start + 1] == 46)):  # "." and ".."
            return None, None
        above = start - 1 if start else 0
        if PyBytes_GET_SIZE(self._parent_path) != above or memcmp(PyBytes_AS_STRING(self._parent_path), text, above):
            self._parent_path = PyBytes_FromStringAndSize(text, above)
        directory = self._by_path.get(self._parent_path)
        if directory is None:
            return None, None
        name = PyBytes_FromStringAndSize(text + start, length - start)
        if name in directory.entries:
            return None, None
        return directory, name

    cdef Py_ssize_t _next_inode(self) except -1:
        """The number that InodeNumbers would give next, with its block of the table at hand; 0 if it would have to search."""
        cdef Py_ssize_t ino = self._numbers._next
        cdef Py_ssize_t near = self._sink._near
        if ino == <Py_ssize_t>self._numbers._stop or (near - 1) // self._per_group != <Py_ssize_t>self._numbers._group:
            return 0
        if <Py_ssize_t>self._numbers.free < 1:
            return 0
        if not <Py_ssize_t>self._table._first <= ino < <Py_ssize_t>self._table._end and self._table._hold(ino):
            return 0
        return ino

    cdef bytes _frame(self, metadata, bint is_link):
        """The inode of such metadata, without size, blocks and checksum; None if it cannot be stored.

        Entries of one package share metadata.
        """
        cdef Py_ssize_t slot = <Py_ssize_t>((<uintptr_t><void *>metadata >> 4) & (SLOTS - 1)) * 2 + is_link
        if self._metadata[slot] is metadata:
            return self._frames[slot]
        if metadata.mode >> 12 or metadata.uid >> 32 or metadata.gid >> 32:
            return None
        mode, flags = (S_IFLNK | 0o777, 0) if is_link else (S_IFREG | metadata.mode, self._sink._data_flags)
        inode = NewInode(mode, metadata.uid, metadata.gid, metadata.mtime, 0, 0, 1, flags, b"")
        frame = encode_inode(self._fs.shape, inode, self._fs.now)
        self._metadata[slot], self._frames[slot] = metadata, frame
        return frame

    cdef _store(self, Py_ssize_t ino, bytes frame, Py_ssize_t size, Py_ssize_t blocks, const unsigned char *data):
        """Take blocks, put the content there, and write the inode that says so."""
        cdef unsigned char[24] root
        cdef int64_t start
        cdef Py_ssize_t used, padded = blocks * self._block_size
        cdef unsigned char *buffer = <unsigned char *>PyByteArray_AS_STRING(self._blocks)
        cdef Py_ssize_t root_size = 12
        memset(root, 0, 24)
        put_16(root, EXTENT_MAGIC)
        put_16(root + 4, 4)
        if blocks:
            allocator, writer = self._allocator, self._writer
            start = allocator._start
            used = writer._used
            if used and (used + padded > buffer_bytes or <int64_t>writer._first + used // self._block_size != start):
                writer.flush()
                used = 0
            if not used:
                writer._first = start
            if not 0 <= used <= buffer_bytes - padded or PyByteArray_GET_SIZE(self._blocks) != buffer_bytes:
                raise IndexError("content outside the buffer")
            memcpy(buffer + used, data, size)
            memset(buffer + used + size, 0, padded - size)
            writer._used = used + padded
            allocator._start = start + blocks
            allocator.left = <Py_ssize_t>allocator.left - blocks
            allocator.free_blocks = <int64_t>allocator.free_blocks - blocks
            put_16(root + 2, 1)
            put_16(root + 16, <uint16_t>blocks)
            put_16(root + 18, <uint16_t>(start >> 32))
            put_32(root + 20, <uint32_t>(start & 0xFFFFFFFF))
            root_size = 24
        self._write_inode(ino, frame, size, blocks, root, root_size)

    cdef _write_inode(
        self, Py_ssize_t ino, bytes frame, Py_ssize_t size, Py_ssize_t blocks, const unsigned char *block, Py_ssize_t block_size
    ):
        cdef Py_ssize_t offset = self._table._offset
        cdef unsigned char[8] owner
        cdef unsigned char *at
        cdef uint32_t checksum
        offset += (ino - <Py_ssize_t>self._table._first) * self._inode_size
        if PyBytes_GET_SIZE(frame) != self._inode_size or self._inode_size < 128 or block_size > 60:
            raise IndexError("an inode of another size")
        if not 0 <= offset <= PyByteArray_GET_SIZE(self._inodes) - self._inode_size:
            raise IndexError("an inode outside its table")
        at = <unsigned char *>PyByteArray_AS_STRING(self._inodes) + offset
        memcpy(at, PyBytes_AS_STRING(frame), self._inode_size)
        put_32(at + SIZE, <uint32_t>size)
        put_32(at + SECTORS, <uint32_t>(blocks * (self._block_size // 512)))
        memcpy(at + BLOCK, block, block_size)
        if self._checksums:
            put_32(owner, <uint32_t>ino)
            put_32(owner + 4, 0)
            checksum = crc32c(crc32c(self._seed, owner, 8), at, self._inode_size)
            put_16(at + CHECKSUM_LOW, <uint16_t>(checksum & 0xFFFF))
            if self._high:
                put_16(at + CHECKSUM_HIGH, <uint16_t>(checksum >> 16))

    cdef _link(self, directory, bytes name, Py_ssize_t ino, file_type):
        cdef Py_ssize_t size = directory.size
        directory.entries[name] = (ino, file_type)
        size += (PyBytes_GET_SIZE(name) + 11) & ~3
        directory.size = size
        directory.dirty = True
        if size > <Py_ssize_t>directory.covered:
            self._directories._cover(directory)
