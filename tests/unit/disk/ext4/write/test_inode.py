"""Inodes as bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.disk.ext4.write.inode import (
    InodeShape,
    NewInode,
    device_block,
    encode_inode,
    encode_time,
    flags_of,
    generation_of,
    links_of,
    mark_deleted,
    mode_of,
    replace_content,
    replace_metadata,
    sectors_of,
    size_of,
    with_links,
    without_xattrs,
)

SECOND = 10**9


def decode_time(low: int, extra: int) -> int:
    """As the kernel's ext4_decode_extra_time does it."""
    signed = low - (1 << 32) if low & 0x80000000 else low
    return (signed + ((extra & 3) << 32)) * SECOND + (extra >> 2)


@given(st.integers((1 - 2**31) * SECOND, (2**34 - 2**31 - 1) * SECOND - 1))
def test_times_come_back(nanoseconds: int) -> None:
    assert decode_time(*encode_time(nanoseconds, extended=True)) == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "extended", "kept"),
    [
        (-(2**40) * SECOND, True, -(2**31) * SECOND),
        (2**40 * SECOND + 5, True, (2**34 - 2**31 - 1) * SECOND),
        (2**31 * SECOND + 5, False, (2**31 - 1) * SECOND),
        (-(2**31) * SECOND - 5, False, -(2**31) * SECOND),
    ],
)
def test_times_out_of_range_become_the_nearest(nanoseconds: int, extended: bool, kept: int) -> None:
    assert decode_time(*encode_time(nanoseconds, extended=extended)) == kept


@pytest.mark.parametrize(
    ("size", "wanted", "extra"), [(128, 32, 0), (256, 32, 32), (256, 0, 32), (256, 28, 28), (512, 500, 384)]
)
def test_the_shape_of_new_inodes(size: int, wanted: int, extra: int) -> None:
    shape = InodeShape.of(size, wanted)
    raw = encode_inode(shape, NewInode(0o100644, 1, 2, 3), now=1)
    assert len(raw) == size
    assert size == 128 or struct.unpack_from("<H", raw, 128) == (extra,)


def test_fields_come_back() -> None:
    inode = NewInode(
        0o104755, 70_000, 2**32 - 2, -1, size=5 << 40, sectors=1 << 40, links=3, flags=0x80000, block=b"b" * 60
    )
    raw = encode_inode(InodeShape(256, 32), inode, now=1_700_000_000)
    assert mode_of(raw) == 0o104755
    assert size_of(raw) == 5 << 40
    assert sectors_of(raw) == 1 << 40
    assert links_of(raw) == 3
    assert links_of(with_links(raw, 65_000)) == 65_000
    assert flags_of(raw) == 0x80000
    assert generation_of(raw) == 0
    changed = replace_content(raw, 7, 8, 9, b"c")
    assert (size_of(changed), sectors_of(changed), flags_of(changed)) == (7, 8, 9)
    assert replace_content(changed, 5 << 40, 1 << 40, 0x80000, b"b" * 60) == raw
    assert struct.unpack_from("<H", raw, 2) + struct.unpack_from("<H", raw, 120) == (70_000 & 0xFFFF, 1)
    amended = replace_metadata(raw, 0o600, 1, 2, 5 * SECOND + 7, now=1_800_000_000)
    assert mode_of(amended) == 0o100600
    assert size_of(amended) == 5 << 40
    assert struct.unpack_from("<I", amended, 16) == (5,)
    assert struct.unpack_from("<I", amended, 128 + 8) == (7 << 2,)
    deleted = mark_deleted(raw, 77)
    assert links_of(deleted) == 0
    assert struct.unpack_from("<I", deleted, 20) == (77,)
    assert without_xattrs(raw[:160] + b"x" * 96) == raw


@pytest.mark.parametrize(
    ("major", "minor", "words"),
    [(0, 0, (0, 0)), (1, 3, (0x103, 0)), (255, 255, (0xFFFF, 0)), (259, 1, (0, 0x10301)), (8, 256, (0, 0x100800))],
)
def test_device_numbers(major: int, minor: int, words: tuple[int, int]) -> None:
    assert struct.unpack("<II", device_block(major, minor).ljust(8, b"\0")) == words


@pytest.mark.parametrize(("major", "minor"), [(4096, 0), (0, 1 << 20), (-1, 0), (0, -1)])
def test_device_numbers_that_linux_does_not_have(major: int, minor: int) -> None:
    with pytest.raises(ValueError, match=f"device number {major}:{minor} is outside"):
        device_block(major, minor)
