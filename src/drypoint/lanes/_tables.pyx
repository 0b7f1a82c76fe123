"""Names of a directory, and names seen, in a few dozen bytes each where Python's objects take hundreds. See the stub.

Slots are found by Python's own hash of bytes, which is seeded at random.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    LEAST_SLOTS = 8
    LEAST_BYTES = 128
    NAME_MAX = 255


cdef packed struct record:
    # The length of the name follows the kind; a kind of GONE is an entry that was taken out.
    uint32_t mixed
    uint32_t inode
    uint8_t kind
    uint8_t length

cdef enum:
    GONE = 255


cdef class NameTable:
    """A directory's entries, in the order in which they came."""

    cdef char *_arena
    cdef uint32_t *_slots
    cdef Py_ssize_t _used, _room, _count, _filled, _slot_count

    def __cinit__(self):
        self._slot_count = LEAST_SLOTS
        self._slots = <uint32_t *>PyMem_Calloc(LEAST_SLOTS, sizeof(uint32_t))
        if self._slots == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._arena)
        PyMem_Free(self._slots)

    def __len__(self):
        return self._count

    def __contains__(self, bytes name not None):
        return self._find(name)[0] != 0

    def get(self, bytes name not None):
        cdef uint32_t place = self._find(name)[0]
        cdef record *found
        if not place:
            return None
        found = <record *>(self._arena + place - 1)
        return found.inode, found.kind

    def __setitem__(self, bytes name not None, tuple value not None):
        cdef uint32_t *slot = self._find(name)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(name)
        cdef uint32_t inode = value[0]
        cdef uint8_t kind = value[1]
        cdef record *made
        if kind == GONE or length > NAME_MAX:
            raise ValueError("not a directory entry")
        if slot[0]:
            made = <record *>(self._arena + slot[0] - 1)
            made.inode, made.kind = inode, kind
            return
        self._make_room(sizeof(record) + length)
        made = <record *>(self._arena + self._used)
        made.mixed = <uint32_t>(<uint64_t>hash(name) & 0xFFFFFFFF)
        made.inode, made.kind, made.length = inode, kind, <uint8_t>length
        memcpy(<char *>made + sizeof(record), PyBytes_AS_STRING(name), length)
        slot[0] = <uint32_t>(self._used + 1)
        self._used += sizeof(record) + length
        self._count += 1
        self._filled += 1
        if 4 * self._filled >= 3 * self._slot_count:
            self._spread()

    def pop(self, bytes name not None):
        cdef uint32_t place = self._find(name)[0]
        cdef record *found
        if not place:
            raise KeyError(name)
        found = <record *>(self._arena + place - 1)
        value = found.inode, found.kind
        # The slot keeps it, so that names in later slots are still found.
        found.kind = GONE
        self._count -= 1
        return value

    def items(self):
        cdef Py_ssize_t at = 0
        cdef record *found
        cdef list items = []
        while at < self._used:
            found = <record *>(self._arena + at)
            if found.kind != GONE:
                name = PyBytes_FromStringAndSize(<char *>found + sizeof(record), found.length)
                items.append((name, (found.inode, found.kind)))
            at += sizeof(record) + found.length
        return items

    cdef uint32_t *_find(self, bytes name) except NULL:
        """The slot of the name, or the free one in which it would be put."""
        cdef uint32_t mixed = <uint32_t>(<uint64_t>hash(name) & 0xFFFFFFFF)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(name)
        cdef Py_ssize_t mask = self._slot_count - 1
        cdef Py_ssize_t at = mixed & mask
        cdef record *found
        while self._slots[at]:
            found = <record *>(self._arena + self._slots[at] - 1)
            if (
                found.mixed == mixed
                and found.length == length
                and found.kind != GONE
                and memcmp(<char *>found + sizeof(record), PyBytes_AS_STRING(name), length) == 0
            ):
                break
            at = (at + 1) & mask
        return &self._slots[at]

    cdef int _make_room(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t room = self._room
        cdef char *arena
        if self._used + size <= room:
            return 0
        room = max(LEAST_BYTES, room + room // 4 + size)
        if room > 0xFFFFFFFF:
            raise MemoryError("a directory of more than 4 GiB")
        arena = <char *>PyMem_Realloc(self._arena, room)
        if arena == NULL:
            raise MemoryError
        self._arena, self._room = arena, room
        return 0

    cdef int _spread(self) except -1:
        """Twice as many slots, without removed names."""
        cdef Py_ssize_t count = 2 * self._slot_count
        cdef uint32_t *slots = <uint32_t *>PyMem_Calloc(count, sizeof(uint32_t))
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t slot
        cdef record *found
        if slots == NULL:
            raise MemoryError
        while at < self._used:
            found = <record *>(self._arena + at)
            if found.kind != GONE:
                slot = found.mixed & (count - 1)
                while slots[slot]:
                    slot = (slot + 1) & (count - 1)
                slots[slot] = <uint32_t>(at + 1)
            at += sizeof(record) + found.length
        PyMem_Free(self._slots)
        self._slots, self._slot_count, self._filled = slots, count, self._count
        return 0


cdef struct fingerprint:
    uint64_t first
    uint64_t second


cdef class SeenNames:
    """128 bits of each name."""

    cdef fingerprint *_slots
    cdef Py_ssize_t _count, _slot_count

    def __cinit__(self):
        self._slot_count = LEAST_SLOTS
        self._slots = <fingerprint *>PyMem_Calloc(LEAST_SLOTS, sizeof(fingerprint))
        if self._slots == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._slots)

    def __len__(self):
        return self._count

    cpdef bint add(self, bytes name) except -1:
        cdef fingerprint made
        cdef Py_ssize_t at
        if name is None:
            raise TypeError("a name is bytes")
        made.first = <uint64_t>hash(name)
        made.second = mixed_bytes(<const unsigned char *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        at = self._slot_of(self._slots, self._slot_count, &made)
        if self._slots[at].second:
            return False
        self._slots[at] = made
        self._count += 1
        if 4 * self._count >= 3 * self._slot_count:
            self._spread()
        return True

    cdef Py_ssize_t _slot_of(self, fingerprint *slots, Py_ssize_t count, fingerprint *one) noexcept:
        cdef Py_ssize_t at = <Py_ssize_t>(one.first & <uint64_t>(count - 1))
        while slots[at].second and (slots[at].first != one.first or slots[at].second != one.second):
            at = (at + 1) & (count - 1)
        return at

    cdef int _spread(self) except -1:
        cdef Py_ssize_t count = 2 * self._slot_count
        cdef fingerprint *slots = <fingerprint *>PyMem_Calloc(count, sizeof(fingerprint))
        cdef Py_ssize_t at
        if slots == NULL:
            raise MemoryError
        for at in range(self._slot_count):
            if self._slots[at].second:
                slots[self._slot_of(slots, count, &self._slots[at])] = self._slots[at]
        PyMem_Free(self._slots)
        self._slots, self._slot_count = slots, count
        return 0


cdef uint64_t mixed_bytes(const unsigned char *data, Py_ssize_t length) noexcept:
    """FNV-1a, never 0: a free slot has that."""
    cdef uint64_t value = 0xCBF29CE484222325u
    cdef Py_ssize_t place
    for place in range(length):
        value = (value ^ data[place]) * 0x100000001B3u
    return value or 1
