"""Cases of GNU's sparse files in their four formats, valid and malformed.

Format: GNU tar manual, "Storing Sparse Files" and "Standard"; old GNU headers: its src/tar.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.corpus.case import GNU_MAGIC, SECONDS, Case, case, layer, padded

from drypoint.samples.layers import with_checksum
from drypoint.sinks.tar import UstarHeader, pax_header

Fragment = tuple[int, bytes]
_HOLEY: tuple[Fragment, ...] = ((4096, b"one" * 100), (1_000_000, b"two" * 500), (3_000_000, b"3"))
_SIZE = 3_500_000
_MANY: tuple[Fragment, ...] = tuple((number * 1000, b"%04d" % number) for number in range(60))


def _old(fragments: Sequence[Fragment], size: int) -> bytes:
    """Old GNU format: a map in the header (4 fragments) and in blocks after it (21 each)."""
    content = b"".join(data for _, data in fragments)
    header = bytearray(
        UstarHeader(b"sparse", b"S", mode=0o644, size=len(content), seconds=SECONDS, magic=GNU_MAGIC).pack()
    )
    numbers = [b"%011o\0%011o\0" % (offset, len(data)) for offset, data in fragments]
    header[386 : 386 + 96] = b"".join(numbers[:4]).ljust(96, b"\0")
    header[482] = len(numbers) > 4
    header[483:495] = b"%011o\0" % size
    blocks = [numbers[start : start + 21] for start in range(4, len(numbers), 21)]
    more = b"".join(
        (b"".join(block).ljust(504, b"\0") + bytes([number < len(blocks)])).ljust(512, b"\0")
        for number, block in enumerate(blocks, 1)
    )
    return with_checksum(bytes(header)) + more + padded(content)


def _pax_0_0(fragments: Sequence[Fragment], size: int, blocks: int | None = None) -> bytes:
    """Format 0.0: a pair of records for each fragment, with equal keys."""
    records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % (blocks or len(fragments)))]
    for offset, data in fragments:
        records += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % len(data))]
    body = b"".join(pax_header({key: value}, b"x")[512:].rstrip(b"\0") for key, value in records)
    content = b"".join(data for _, data in fragments)
    return UstarHeader(b"PaxHeaders/x", b"x", size=len(body)).pack() + padded(body) + _file(b"sparse", content)


def _pax_0_1(fragments: Sequence[Fragment], size: int) -> bytes:
    """Format 0.1: the map is one record, and the name too."""
    numbers = b",".join(b"%d,%d" % (offset, len(data)) for offset, data in fragments)
    records = {
        b"GNU.sparse.size": b"%d" % size,
        b"GNU.sparse.numblocks": b"%d" % len(fragments),
        b"GNU.sparse.name": b"sparse",
        b"GNU.sparse.map": numbers,
    }
    return pax_header(records, b"sparse") + _file(b"GNUSparseFile.1/sparse", b"".join(data for _, data in fragments))


def _pax_1_0(fragments: Sequence[Fragment], size: int) -> bytes:
    """Format 1.0: the map is before the content."""
    numbers = b"".join(b"%d\n%d\n" % (offset, len(data)) for offset, data in fragments)
    content = padded(b"%d\n" % len(fragments) + numbers) + b"".join(data for _, data in fragments)
    records = {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": b"sparse",
        b"GNU.sparse.realsize": b"%d" % size,
    }
    return pax_header(records, b"sparse") + _file(b"GNUSparseFile.1/sparse", content)


def _file(name: bytes, content: bytes) -> bytes:
    return UstarHeader(name, b"0", mode=0o644, seconds=SECONDS, size=len(content)).pack() + padded(content)


def _then(tar: bytes) -> bytes:
    return layer().raw(tar).file("next", b"1").finish()


SPARSE: tuple[Case, ...] = (
    case(
        "sparse-old",
        "a sparse file of the old GNU format, which is a type of its own: engines do not know it",
        _then(_old(_HOLEY, _SIZE)),
        refused="b'sparse'",
    ),
    case("sparse-0-0", "a sparse file of format 0.0", _then(_pax_0_0(_HOLEY, _SIZE))),
    case("sparse-0-1", "a sparse file of format 0.1", _then(_pax_0_1(_HOLEY, _SIZE))),
    case("sparse-1-0", "a sparse file of format 1.0", _then(_pax_1_0(_HOLEY, _SIZE))),
    case(
        "sparse-old-many",
        "the old format with 60 fragments: its map goes on in further blocks",
        _then(_old(_MANY, 100_000)),
        refused="b'sparse'",
    ),
    case("sparse-0-0-many", "format 0.0 with 60 fragments", _then(_pax_0_0(_MANY, 100_000))),
    case("sparse-0-1-many", "format 0.1 with 60 fragments", _then(_pax_0_1(_MANY, 100_000))),
    case(
        "sparse-1-0-many", "format 1.0 with 60 fragments: its map fills several blocks", _then(_pax_1_0(_MANY, 100_000))
    ),
    case("sparse-all-hole", "a sparse file that is nothing but a hole", _then(_pax_1_0((), 1_000_000))),
    case("sparse-empty", "a sparse file of no bytes", _then(_pax_1_0((), 0))),
    case("sparse-no-hole", "a sparse file without any hole", _then(_pax_1_0(((0, b"all of it"),), 9))),
    case(
        "sparse-end-marker",
        "a map that ends in an empty fragment at the file's end, as GNU tar writes it",
        _then(_pax_1_0((*_HOLEY, (_SIZE, b"")), _SIZE)),
    ),
    case(
        "sparse-overlap",
        "fragments that overlap",
        _then(_pax_1_0(((0, b"1234"), (2, b"5678")), 100)),
        refused="fragment",
    ),
    case(
        "sparse-disorder",
        "fragments out of order",
        _then(_pax_1_0(((50, b"1234"), (2, b"5678")), 100)),
        refused="fragment",
    ),
    case(
        "sparse-outside", "a fragment beyond the file's end", _then(_pax_1_0(((50, b"1234"),), 52)), refused="fragment"
    ),
    case(
        "sparse-count",
        "more fragments announced than there are",
        _then(_pax_0_0(_HOLEY, _SIZE, blocks=9)),
        refused="fragments",
    ),
    case(
        "sparse-map-cut-off",
        "a map in the content that is cut off",
        _then(pax_header({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}, b"x") + _file(b"x", b"5\n1\n")),
        refused="map",
    ),
    case(
        "sparse-map-is-no-map",
        "a map in the content that is none",
        _then(
            pax_header({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}, b"x") + _file(b"x", padded(b"five\n"))
        ),
        refused="five",
    ),
    case(
        "sparse-data-missing",
        "a map that names more data than there is",
        _then(
            pax_header({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"100"}, b"x")
            + _file(b"x", padded(b"1\n0\n50\n") + b"short")
        ),
        refused="data",
    ),
    case(
        "sparse-data-unnamed",
        "data that the map does not name",
        _then(
            pax_header({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"100"}, b"x")
            + _file(b"x", padded(b"1\n0\n2\n") + b"much more")
        ),
        refused="data",
    ),
    case(
        "sparse-version-2",
        "a sparse format that nobody knows: an ordinary file",
        _then(pax_header({b"GNU.sparse.major": b"2", b"GNU.sparse.minor": b"0"}, b"x") + _file(b"x", b"content")),
    ),
    case(
        "sparse-without-gnu-magic",
        "type S in a ustar header",
        _then(UstarHeader(b"sparse", b"S", mode=0o644, seconds=SECONDS).pack()),
        refused="sparse",
    ),
)
