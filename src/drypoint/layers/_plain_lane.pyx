# cython: wraparound=False
"""Plain entries of a tar, as many as lie whole in one chunk: the compiled lane of drypoint.layers.reader.

What an entry is turned into is what header.py, tar.py, change.py and tarsplit.py make of it, byte for byte. An entry that is not
of the plainest kind ends the batch, and is left to them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ..fstree import Directory, Regular, Symlink
from .change import Add, metadata_of
from .tarsplit import crc_of


cdef extern from "crc64.h" nogil:
    void crc64_prepare()
    uint64_t crc64(const unsigned char *data, size_t count)

cdef extern from "text.h" nogil:
    void text_prepare()
    char *text_encode(char *out, const unsigned char *data, size_t count)
    char *text_decimal(char *out, uint64_t value)
    bint text_is_plain(const unsigned char *data, size_t count)

cdef extern from "tar_header.h" nogil:
    enum:
        TAR_BLOCK
        TAR_NAME_MAX
    ctypedef struct tar_header:
        unsigned char kind
        uint32_t mode
        uint32_t uid
        uint32_t gid
        uint64_t size
        uint64_t mtime
        int name_length
        int link_length
        unsigned char name[256]
        const unsigned char *link
    bint tar_plain_header(const unsigned char *block, tar_header *header)
    bint tar_plain_name(const unsigned char *name, int length, int *start, int *end)

crc64_prepare()
text_prepare()

cdef enum:
    # Base64 of padding and header, the longest name, two positions, size and checksum, and what goes around them.
    LONGEST_LINES = 2048
    LINES = 512 << 10
    SLOTS = 256
    # From here on the checksum by call costs nothing that counts, and is as fast on every processor.
    LARGE = 32 << 10
    FRAME = 20


cdef struct metadata_key:
    uint32_t mode
    uint32_t uid
    uint32_t gid
    uint32_t is_link
    uint64_t mtime


cdef inline char *put(char *out, const char *text, size_t count) noexcept:
    memcpy(out, text, count)
    return out + count


cdef class PlainEntries:
    """Takes entries for one layer. See the stub."""

    cdef object _seen
    cdef char *_lines
    cdef metadata_key[256] _keys
    cdef list _metadata

    def __cinit__(self, seen):
        self._seen = seen
        self._metadata = [None] * SLOTS
        self._lines = <char *>PyMem_Malloc(LINES)
        if self._lines == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._lines)

    def take(
        self, bytes chunk not None, Py_ssize_t position, Py_ssize_t padding, int64_t record, Py_ssize_t pending, Py_ssize_t limit
    ):
        cdef tar_header header
        cdef int start = 0
        cdef int end = 0
        cdef Py_ssize_t block, content, stop
        cdef Py_ssize_t size = 0
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(chunk)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(chunk)
        cdef char *line = self._lines
        cdef char *begin
        cdef bytes path
        cdef list found = []
        cdef bytes last = b""
        if not (0 <= position <= length and 0 <= padding < TAR_BLOCK):
            raise ValueError("a position outside the chunk")
        view = None
        while pending < limit and line - self._lines <= LINES - LONGEST_LINES:
            block = position + padding
            content = block + TAR_BLOCK
            if content > length or not tar_plain_header(data + block, &header):
                break
            if header.size > <uint64_t>(length - content):
                break
            size = <Py_ssize_t>header.size
            stop = content + size
            if header.name_length > 255 or not tar_plain_name(header.name, header.name_length, &start, &end):
                break
            if not text_is_plain(header.name, <size_t>header.name_length):
                break
            path = PyBytes_FromStringAndSize(<const char *>header.name + start, end - start)
            if not self._seen.add(path):
                break
            begin = line
            line = self._put_lines(line, data + position, padding + TAR_BLOCK, &header, data + content, record)
            if size >= LARGE:
                line = self._put_checksum(line, crc_of(memoryview(chunk)[content:stop]), record + 1)
            pending += line - begin - FRAME
            record += 2
            last = PyBytes_FromStringAndSize(<const char *>header.name, header.name_length)
            if header.kind == 48:  # "0"
                if view is None:
                    view = memoryview(chunk)
                found.append((Add(Regular(path, self._metadata_of(&header), size)), (view[content:stop],)))
            elif header.kind == 53:  # "5"
                found.append((Add(Directory(path, self._metadata_of(&header))), None))
            else:
                target = PyBytes_FromStringAndSize(<const char *>header.link, header.link_length)
                found.append((Add(Symlink(path, self._metadata_of(&header), target)), None))
            position = stop
            padding = -size % TAR_BLOCK
        if not found:
            return None
        return found, PyBytes_FromStringAndSize(self._lines, line - self._lines), position, padding, pending, size, last

    def change_of(self, bytes raw not None, Py_ssize_t padding):
        cdef tar_header header
        cdef int start = 0
        cdef int end = 0
        if padding < 0 or PyBytes_GET_SIZE(raw) != padding + TAR_BLOCK:
            return None
        if not tar_plain_header(<const unsigned char *>PyBytes_AS_STRING(raw) + padding, &header):
            return None
        if header.name_length > 255 or not tar_plain_name(header.name, header.name_length, &start, &end):
            return None
        path = PyBytes_FromStringAndSize(<const char *>header.name + start, end - start)
        if header.kind == 48:  # "0"
            entry = Regular(path, self._metadata_of(&header), header.size)
        elif header.kind == 53:  # "5"
            entry = Directory(path, self._metadata_of(&header))
        else:
            target = PyBytes_FromStringAndSize(<const char *>header.link, header.link_length)
            entry = Symlink(path, self._metadata_of(&header), target)
        name = path if end - start == header.name_length else PyBytes_FromStringAndSize(
            <const char *>header.name, header.name_length
        )
        return Add(entry), header.size, name

    cdef char *_put_lines(
        self,
        char *line,
        const unsigned char *raw,
        Py_ssize_t count,
        tar_header *header,
        const unsigned char *content,
        int64_t record,
    ) noexcept:
        line = put(line, b'{"type":2,"payload":"', 21)
        line = text_encode(line, raw, <size_t>count)
        line = put(line, b'","position":', 13)
        line = text_decimal(line, <uint64_t>record)
        line = put(line, b'}\n{"type":1,"name":"', 20)
        line = put(line, <const char *>header.name, <size_t>header.name_length)
        line = put(line, b'",', 2)
        if not header.size:
            line = put(line, b'"payload":null,"position":', 26)
            line = text_decimal(line, <uint64_t>record + 1)
            return put(line, b'}\n', 2)
        line = put(line, b'"size":', 7)
        line = text_decimal(line, header.size)
        if header.size >= LARGE:
            return put(line, b',', 1)
        line = put(line, b',', 1)
        return self._put_checksum(line, crc64(content, header.size), record + 1)

    cdef char *_put_checksum(self, char *line, uint64_t crc, int64_t record) noexcept:
        cdef unsigned char[8] raw
        cdef int place
        for place in range(8):
            raw[place] = <unsigned char>(crc >> (56 - 8 * place) & 0xFF)
        line = put(line, b'"payload":"', 11)
        line = text_encode(line, raw, 8)
        line = put(line, b'","position":', 13)
        line = text_decimal(line, <uint64_t>record)
        return put(line, b'}\n', 2)

    cdef object _metadata_of(self, tar_header *header):
        """Entries of one package have it in common: one object for all, as the twin has it."""
        cdef uint32_t is_link = header.kind == 50  # "2"
        cdef uint64_t mixed = header.mtime * 0x9E3779B97F4A7C15u + header.mode * 31u + header.uid * 1009u + header.gid * 7919u
        cdef Py_ssize_t slot = <Py_ssize_t>((mixed >> 32 ^ mixed ^ is_link) & (SLOTS - 1))
        cdef metadata_key *key = &self._keys[slot]
        found = self._metadata[slot]
        if (
            found is not None
            and key.mode == header.mode
            and key.uid == header.uid
            and key.gid == header.gid
            and key.mtime == header.mtime
            and key.is_link == is_link
        ):
            return found
        found = metadata_of(bool(is_link), header.mode, header.uid, header.gid, header.mtime * 1000000000)
        key.mode, key.uid, key.gid, key.mtime, key.is_link = header.mode, header.uid, header.gid, header.mtime, is_link
        self._metadata[slot] = found
        return found
