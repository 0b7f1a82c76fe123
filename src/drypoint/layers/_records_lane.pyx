"""Plain lines of a tar-split: the compiled lane of drypoint.layers.assemble.

A line is plain if it is spelled as engines, and drypoint, spell nearly all. The first that is not ends the batch, and is left to
the twin.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr, memcmp

from .records import FileRecord


cdef extern from "text.h" nogil:
    void text_prepare()
    ptrdiff_t text_decode(unsigned char *out, const unsigned char *text, size_t count)
    bint text_is_plain(const unsigned char *data, size_t count)

cdef extern from "tar_header.h" nogil:
    bint tar_plain_name(const unsigned char *name, int length, int *start, int *end)

text_prepare()

cdef enum:
    NAME_MAX = 255
    SEGMENT_MAX = 4096
    PAYLOAD_MAX = 3072


cdef inline const unsigned char *after(
    const unsigned char *at, const unsigned char *end, const char *expected, Py_ssize_t count
) noexcept:
    """Behind the expected characters; NULL if they are not there."""
    if at == NULL or end - at < count or memcmp(at, expected, count):
        return NULL
    return at + count


cdef const unsigned char *number(const unsigned char *at, const unsigned char *end, int64_t *value) noexcept:
    """Behind a decimal number of up to 18 digits, as JSON spells it; NULL if there is none."""
    cdef const unsigned char *start = at
    cdef int64_t found = 0
    if at == NULL:
        return NULL
    while at < end and 48 <= at[0] <= 57:
        found = 10 * found + at[0] - 48
        at += 1
        if at - start > 18:
            return NULL
    if at == start or (start[0] == 48 and at - start > 1):
        return NULL
    value[0] = found
    return at


cdef class PlainRecords:
    """Takes records of one tar-split. See the stub."""

    cdef object _seen

    def __cinit__(self, seen):
        self._seen = seen

    def take(self, bytes text not None, Py_ssize_t start, int64_t position):
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(text)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(text)
        cdef const unsigned char *line
        cdef const unsigned char *end
        cdef list found = []
        if not 0 <= start <= length or position < 0:
            raise ValueError("a position outside the text")
        while start < length:
            line = data + start
            end = <const unsigned char *>memchr(line, 10, length - start)
            if end == NULL or end - line < 20:
                break
            if line[8] == 50:  # {"type":2
                record = self._segment(line, end, position)
            else:
                record = self._file(line, end, position)
            if record is None:
                break
            found.append(record)
            position += 1
            start = end - data + 1
        return found, start

    cdef bytes _segment(self, const unsigned char *line, const unsigned char *end, int64_t position):
        cdef unsigned char[PAYLOAD_MAX] payload
        cdef const unsigned char *at = after(line, end, b'{"type":2,"payload":"', 21)
        cdef const unsigned char *close
        cdef ptrdiff_t size
        if at == NULL:
            return None
        close = <const unsigned char *>memchr(at, 34, end - at)
        if close == NULL or close - at > SEGMENT_MAX or not self._ends(close, end, b'","position":', 13, position):
            return None
        size = text_decode(payload, at, close - at)
        return None if size < 0 else PyBytes_FromStringAndSize(<const char *>payload, size)

    cdef _file(self, const unsigned char *line, const unsigned char *end, int64_t position):
        cdef const unsigned char *name = after(line, end, b'{"type":1,"name":"', 18)
        cdef const unsigned char *at
        cdef const unsigned char *close
        cdef unsigned char[9] raw
        cdef int start = 0
        cdef int stop = 0
        cdef int length, place
        cdef int64_t size = 0
        cdef uint64_t crc = 0
        cdef bytes whole, path
        if name == NULL:
            return None
        close = <const unsigned char *>memchr(name, 34, end - name)
        if close == NULL or close - name > NAME_MAX:
            return None
        length = <int>(close - name)
        if not text_is_plain(name, length) or not tar_plain_name(name, length, &start, &stop):
            return None
        at = after(close, end, b'",', 2)
        if at == NULL:
            return None
        if end - at > 7 and at[1] == 115:  # "size":
            at = after(number(after(at, end, b'"size":', 7), end, &size), end, b',', 1)
            if at == NULL or not size:
                return None
        checksum = None
        if end - at > 10 and at[10] == 110:  # null
            if not self._ends(at, end, b'"payload":null,"position":', 26, position):
                return None
        else:
            at = after(at, end, b'"payload":"', 11)
            if at == NULL or end - at < 12 or text_decode(raw, at, 12) != 8:
                return None
            if not self._ends(at + 12, end, b'","position":', 13, position):
                return None
            for place in range(8):
                crc = crc << 8 | raw[place]
            checksum = crc
        whole = PyBytes_FromStringAndSize(<const char *>name, length)
        path = whole if stop - start == length else PyBytes_FromStringAndSize(<const char *>name + start, stop - start)
        if not self._seen.add(path):
            return None
        return FileRecord(whole, path, size, checksum)

    cdef bint _ends(
        self, const unsigned char *at, const unsigned char *end, const char *expected, Py_ssize_t count, int64_t position
    ) noexcept:
        """Whether the line ends with what is expected, the position and a brace."""
        cdef int64_t found = -1
        at = number(after(at, end, expected, count), end, &found)
        return after(at, end, b'}', 1) == end and found == position
