"""Directory blocks."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.disk.ext4.write.directory import BlockPacker, entry_size, parse_block
from drypoint.errors import FilesystemError

NAMES = st.binary(min_size=1, max_size=255)


@given(st.dictionaries(NAMES, st.tuples(st.integers(1, 2**32 - 1), st.integers(1, 7)), min_size=1, max_size=60))
def test_packed_entries_are_parsed_back(entries: dict[bytes, tuple[int, int]]) -> None:
    wanted = [(name, ino, file_type) for name, (ino, file_type) in entries.items()]
    packer = BlockPacker(1012, filetype=True)
    blocks = [full for entry in wanted if (full := packer.put(entry)) is not None]
    blocks.append(packer.take())
    assert {len(block) for block in blocks} == {1012}
    assert [entry for block in blocks for entry in parse_block(block, "here")] == wanted


@pytest.mark.parametrize(("length", "size"), [(1, 12), (4, 12), (5, 16), (255, 264)])
def test_entries_are_padded_to_four_bytes(length: int, size: int) -> None:
    assert entry_size(b"n" * length) == size


_FREQUENT = (0, 1, 4, 8, 12, 16, 255)
"""Bytes that occur in headers of entries."""


@given(
    st.binary(min_size=1024, max_size=1024)
    | st.binary(min_size=1024, max_size=1024).map(lambda block: bytes(_FREQUENT[byte % 7] for byte in block))
)
def test_any_block_is_parsed_or_refused(block: bytes) -> None:
    try:
        found = parse_block(block, "here")
    except FilesystemError:
        return
    assert all(ino for _, ino, _ in found)


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<IHBB", 5, 4, 0, 1),
        struct.pack("<IHBB", 5, 14, 3, 1),
        struct.pack("<IHBB", 5, 1028, 3, 1),
        struct.pack("<IHBB", 5, 12, 5, 1),
        struct.pack("<IHBB", 5, 1020, 3, 1),
    ],
)
def test_records_that_leave_their_room(head: bytes) -> None:
    with pytest.raises(FilesystemError, match=r"here: .* run e2fsck -f"):
        parse_block(head.ljust(1024, b"\0"), "here")
