"""tar → tar-split → tar is the identity, for whatever begins as a tar: any kinds of entries, any header touched, any end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import event, given, settings
from hypothesis import strategies as st

from drypoint.errors import LayerError
from drypoint.fstree import Metadata
from drypoint.layers import LayerReader, TarReader, assemble, read_tar_split
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
    """A byte of the entry's last header block and its new value; the checksum is made right again."""


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


def contents_of(tar: bytes) -> tuple[dict[bytes, bytes], bool, bytes]:
    """Contents by name; whether a tar-split can hold all of the tar; and the bytes that end the archive."""
    reader = TarReader(cut(tar, 1 << 20), "layer")
    found: dict[bytes, bytes] = {}
    complete = True
    for entry in reader:
        found[entry.name] = b"".join(reader.content())
        # Sparse maps are not recorded, nor is what an entry without content claims to hold.
        complete = complete and entry.typeflag != b"S" and len(found[entry.name]) == max(entry.size, 0)
    return found, complete, reader.end


@settings(max_examples=300, deadline=None)
@given(
    wanted=st.lists(members, max_size=5),
    tail=st.one_of(st.just(bytes(1024)), st.binary(max_size=40), st.binary(max_size=1500).map(bytes(1024).__add__)),
    length=st.none() | st.integers(0, 8000),
    step=st.integers(1, 3000),
)
def test_what_begins_as_a_tar_is_rebuilt(wanted: list[Member], tail: bytes, length: int | None, step: int) -> None:
    tar = (tar_of(wanted) + tail)[:length]
    try:
        with LayerReader(cut(tar, step), "layer") as reader:
            for _ in reader:
                pass
            compressed = b"".join(reader.tar_split.chunks())
        files, complete, end = contents_of(tar)
    except LayerError:
        event("refused")
        return
    event("rebuilt" if complete else "not to be rebuilt")
    if complete:
        records = read_tar_split(cut(compressed, step), "layer")
        rebuilt = b"".join(assemble(records, lambda name: [files[name]], "layer"))
        # An archive that ends inside padding loses that piece of it: engines do not record it either.
        lost = len(tar) - len(rebuilt)
        assert rebuilt == tar[: len(rebuilt)]
        assert lost == 0 or (lost < BLOCK and len(tar) % BLOCK and not end.endswith(bytes(BLOCK)))
