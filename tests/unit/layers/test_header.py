"""A header's short way against the long one, and both against the rule of Go's archive/tar, written down here once more."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drypoint.layers import header
from drypoint.layers.header import Header, HeaderError, parse_header
from drypoint.samples.layers import with_checksum

PLAIN = {
    "mode": (100, 8, b"0000644\0"),
    "uid": (108, 8, b"0000000\0"),
    "gid": (116, 8, b"0000000\0"),
    "size": (124, 12, b"00000000000\0"),
    "mtime": (136, 12, b"14000000000\0"),
    "major": (329, 8, b"0000000\0"),
    "minor": (337, 8, b"0000000\0"),
}

DIGITS, BLANKS = b"01234567", b" \0"


def chosen(raw: bytes, alphabet: bytes) -> bytes:
    return bytes(alphabet[byte % len(alphabet)] for byte in raw)


def spellings(width: int) -> st.SearchStrategy[bytes]:
    """Any bytes; digits and blanks in any order; and most often digits with blanks after them."""
    raw = st.binary(min_size=width, max_size=width)
    ended = st.tuples(raw, st.integers(1, width)).map(
        lambda drawn: chosen(drawn[0][: drawn[1]], DIGITS) + chosen(drawn[0][drawn[1] :], BLANKS)
    )
    return ended | raw.map(lambda drawn: chosen(drawn, DIGITS + BLANKS)) | raw


spelled = {width: spellings(width) for width in (8, 12)}


def block(magic: bytes = b"ustar\x0000", **fields: bytes) -> bytes:
    made = b"name".ljust(156, b"\0") + b"0" + bytes(100) + magic + bytes(247)
    for name, (start, width, plain) in PLAIN.items():
        field = fields.get(name, plain)
        assert len(field) == width
        made = made[:start] + field + made[start + width :]
    return with_checksum(made)


def number_as_go_reads_it(field: bytes) -> int | None:
    """archive/tar, strconv.go, parseNumeric and parseOctal; None for an error."""
    if field[0] & 0x80:
        flip = 0xFF if field[0] & 0x40 else 0
        value = 0
        for place, byte in enumerate(field):
            flipped = byte ^ flip
            value = value << 8 | (flipped if place else flipped & 0x7F)
        if value >> 63:
            return None
        return ~value if flip else value
    digits = field.strip(b" \0").split(b"\0")[0]
    if not digits:
        return 0
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else None


def read(function: object, made: bytes) -> Header | None:
    assert callable(function)
    try:
        found = function(made)
    except HeaderError:
        return None
    assert isinstance(found, Header)
    return found


@given(
    st.sampled_from([b"ustar\x0000", b"ustar  \0"]),
    st.fixed_dictionaries({}, optional={name: spelled[width] for name, (_, width, _) in PLAIN.items()}),
)
@example(b"ustar\x0000", {"mode": b"000644\0" + b"0", "uid": b"000000\0" + b"1"})
@example(b"ustar\x0000", {"uid": b"000000\0" + b"1", "gid": b"000000\0\0"})
@example(b"ustar\x0000", {"gid": b"0000000" + b"7"})
def test_every_way_of_reading_a_header_gives_what_go_reads(magic: bytes, fields: dict[str, bytes]) -> None:
    made = block(magic, **fields)
    numbers = {name: number_as_go_reads_it(fields.get(name, plain)) for name, (_, _, plain) in PLAIN.items()}
    short, long = read(parse_header, made), read(header._parse_any, made)
    assert short == long
    if short is None:
        assert None in numbers.values()
    else:
        assert {name: getattr(short, name) for name in numbers} == numbers


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mode": b"000644\0" + b"0", "uid": b"000000\0" + b"1"}, (0o644, 0, 0)),
        ({"uid": b"000000\0" + b"1", "gid": b"000000\0\0"}, (0o644, 0, 0)),
        ({"mode": b"000755 \0", "uid": b"001750 \0", "gid": b"001751 \0"}, (0o755, 1000, 1001)),
        ({"mode": b"00000644", "uid": b"00001750", "gid": b"00001751"}, (0o644, 1000, 1001)),
        ({"mode": b"   644 \0", "uid": b"\0" * 8, "gid": b" " * 8}, (0o644, 0, 0)),
    ],
)
def test_a_field_ends_where_the_next_begins(fields: dict[str, bytes], expected: tuple[int, int, int]) -> None:
    found = parse_header(block(**fields))
    assert (found.mode, found.uid, found.gid) == expected


def test_a_way_that_takes_a_fields_tail_into_the_next_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    across = re.compile(rb"([0-7]{6,7})[ \0]{1,2}" * 3)

    def permissions(field: bytes) -> tuple[int, int, int] | None:
        match = across.fullmatch(field)
        return None if match is None else (int(match[1], 8), int(match[2], 8), int(match[3], 8))

    monkeypatch.setattr(header, "mode_and_owner", permissions)
    with pytest.raises(AssertionError):
        test_every_way_of_reading_a_header_gives_what_go_reads()
