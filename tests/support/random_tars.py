"""Hypothesis strategies for layers: tars of entries of every kind, in every format, with changed bytes in headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from drypoint.fstree import Metadata
from drypoint.samples.layers import LayerBuilder, TarFormat, with_checksum

KINDS = (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"\0")
WITH_CONTENT = (b"0", b"\0")
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Member:
    kind: bytes
    name: bytes
    content: bytes
    link: bytes
    metadata: Metadata
    tar_format: TarFormat
    touched: tuple[int, int] | None
    """The offset of a byte of the entry's last header block, and its new value; the checksum is corrected."""


names = st.one_of(
    st.binary(min_size=1, max_size=20),
    st.binary(min_size=95, max_size=300),
    st.sampled_from([b"a", b"./b", b"/c/", b".wh.d"]),
).map(lambda name: name.replace(b"\0", b"0"))
metadata = st.builds(
    Metadata,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, (1 << 32) - 1),
    gid=st.integers(0, (1 << 32) - 1),
    mtime=st.integers(0, 1 << 62),
)
members = st.builds(
    Member,
    kind=st.sampled_from(KINDS),
    name=names,
    content=st.binary(max_size=1500),
    link=names,
    metadata=metadata,
    tar_format=st.sampled_from(TarFormat),
    touched=st.none() | st.tuples(st.integers(0, BLOCK - 1), st.integers(0, 255)),
)


def tar_of(wanted: list[Member]) -> bytes:
    tar = b""
    for member in wanted:
        content = member.content if member.kind in WITH_CONTENT else b""
        builder = LayerBuilder(tar_format=member.tar_format)
        link = member.link if member.kind in (b"1", b"2") else b""
        builder.header(member.name, member.kind, member.metadata, size=len(content), linkname=link)
        headers = builder.finish(end_of_archive=False)
        if member.touched is not None:
            at, value = member.touched
            last = bytearray(headers[-BLOCK:])
            last[at] = value
            headers = headers[:-BLOCK] + with_checksum(bytes(last))
        tar += headers + content + bytes(-len(content) % BLOCK)
    return tar


def cut(tar: bytes, step: int) -> Iterator[bytes]:
    for start in range(0, len(tar), step):
        yield tar[start : start + step]
