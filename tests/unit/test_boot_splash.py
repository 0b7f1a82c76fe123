"""Splash images: the name on the disk, and PNG files, made here chunk by chunk as the specification has it."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint.balena import splash
from drypoint.balena.splash import check_png, splash_path
from drypoint.errors import UsageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = (b"IEND", b"")
COLOURS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return SIGNATURE + b"".join(chunk(*each) for each in chunks)


def header(width: int = 5, height: int = 3, bits: int = 8, colour: int = 0, interlace: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)


def pixels(width: int = 5, height: int = 3, bits: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    """Rows as an encoder makes them, placed pixel by pixel into Adam7's passes."""
    pattern = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
    rows: dict[tuple[int, int], int] = {}
    for y in range(height):
        for x in range(width):
            number = int(pattern[y % 8][x % 8]) if interlace else 1
            rows[number, y] = rows.get((number, y), 0) + 1
    return b"".join(b"\0" + bytes(-(-count * bits * SAMPLES[colour] // 8)) for _, count in sorted(rows.items()))


def image(*, split: int = 1, **shape: int) -> bytes:
    data = zlib.compress(pixels(**shape))
    size = -(-len(data) // split)
    palette = [(b"PLTE", bytes(6))] if shape.get("colour") == 3 else []
    parts = [(b"IDAT", data[at : at + size]) for at in range(0, len(data), size)]
    return png(header(**shape), (b"tEXt", b"a\0b"), *palette, *parts, END)


@pytest.mark.parametrize(("colour", "bits"), COLOURS)
@pytest.mark.parametrize("interlace", [0, 1])
def test_every_kind_of_png_is_taken(colour: int, bits: int, interlace: int) -> None:
    content = image(width=13, height=9, bits=bits, colour=colour, interlace=interlace, split=3)
    assert check_png(content, "logo.png") == content


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 20), height=st.integers(1, 20), interlace=st.integers(0, 1), kind=st.sampled_from(COLOURS))
def test_every_size_is_taken_and_one_byte_more_or_less_is_not(
    width: int, height: int, interlace: int, kind: tuple[int, int]
) -> None:
    shape = {"width": width, "height": height, "interlace": interlace, "colour": kind[0], "bits": kind[1]}
    palette = [(b"PLTE", bytes(6))] if kind[0] == 3 else []
    raw = pixels(**shape)
    check_png(png(header(**shape), *palette, (b"IDAT", zlib.compress(raw)), END), "x")
    for wrong, why in ((raw[:-1], "fewer"), (raw + b"\0", "more")):
        with pytest.raises(UsageError, match=f"{why} pixels"):
            check_png(png(header(**shape), *palette, (b"IDAT", zlib.compress(wrong)), END), "x")


def test_a_large_image_is_counted_in_pieces() -> None:
    check_png(image(width=900, height=600, colour=6, split=7), "x")


IDAT = (b"IDAT", zlib.compress(pixels()))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not begin"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "does not begin"),
        (SIGNATURE, "cut off"),
        (png(header(), IDAT), "cut off"),
        (png(header(), IDAT, END)[:-1], "cut off"),
        (png(header(), IDAT, END) + b"x", "follows its end"),
        (png(header(), IDAT, END).replace(b"IDAT", b"IDAU"), "checksum"),
        (png(IDAT, END), "begin with a header"),
        (png((b"IHDR", bytes(12)), IDAT, END), "begin with a header"),
        (png(header(0, 3), IDAT, END), "0 × 3 pixels"),
        (png(header(8193, 3), IDAT, END), "8193 × 3"),
        (png(header(8192, 8192, 16, 6), IDAT, END), "take more than"),
        (png(header(bits=3), IDAT, END), "colour type"),
        (png(header(colour=2, bits=4), IDAT, END), "colour type"),
        (png(header(colour=5), IDAT, END), "colour type"),
        (png(header(interlace=2), IDAT, END), "colour type"),
        (png(header(), END), "no pixels"),
        (png(header(), (b"IDAT", b"nonsense"), END), "decompressed"),
        (png(header(), (b"IDAT", IDAT[1][:-4]), END), "pixels are cut off"),
        (png(header(), (b"IDAT", IDAT[1] + b"x"), END), "follows its pixels"),
        (png(header(), IDAT, (b"IDAT", b"x"), END), "follows its pixels"),
        (png(header(), (b"IDAT", IDAT[1][:4]), (b"tEXt", b""), (b"IDAT", IDAT[1][4:]), END), "interrupted"),
        (png(header(), (b"IDAT", zlib.compress(b"\5" + pixels()[1:])), END), "filter"),
        (png(header(colour=3), IDAT, END), "palette is missing"),
        (png(header(colour=3), (b"PLTE", bytes(4)), IDAT, END), "palette has a length"),
        (png(header(colour=3, bits=1), (b"PLTE", bytes(9)), IDAT, END), "palette has a length"),
        (png(header(), (b"PLTE", bytes(3)), IDAT, END), "none belongs"),
        (png(header(), (b"ABCD", b""), IDAT, END), "decoders must know"),
        (png(header(), header(), IDAT, END), "decoders must know"),
        (png(header(), IDAT, (b"IEND", b"x")), "not empty"),
        (png(header(), (b"ID1T", b""), END), "no chunk at byte 33"),
        (SIGNATURE + struct.pack(">I", 0xFFFFFFFF) + b"IHDR" + bytes(13), "cut off"),
        (bytes(splash.MAX_SPLASH_BYTES + 1), "too many for a splash image"),
    ],
)
def test_what_cannot_be_shown_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=rf"^logo\.png .*{why}"):
        check_png(content, "logo.png")


def test_a_bomb_is_not_inflated_to_its_end() -> None:
    bomb = zlib.compress(bytes(16 << 20), 9)
    with pytest.raises(UsageError, match="more pixels"):
        check_png(png(header(), (b"IDAT", bomb), END), "x")


def test_any_changed_byte_is_noticed() -> None:
    content = image()
    chance = random.Random(1)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << chance.randrange(8)
        with pytest.raises(UsageError):
            check_png(bytes(changed), "x")


@pytest.mark.parametrize(
    ("present", "version", "name"),
    [
        ([], None, "balena-logo.png"),
        ([], "2.53.0", "balena-logo.png"),
        ([], "v2.52.9+rev1", "resin-logo.png"),
        ([], "2.0.0-beta.1", "resin-logo.png"),
        ([], "6.1.2+rev3", "balena-logo.png"),
        ([], "2022.1.0", "balena-logo.png"),
        ([], "nonsense", "balena-logo.png"),
        (["resin-logo.png"], "2.80.0", "resin-logo.png"),
        (["Balena-Logo.PNG"], "2.12.0", "balena-logo.png"),
        (["resin-logo.png", "balena-logo.png"], "2.12.0", "resin-logo.png"),
        (["resin-logo.png", "balena-logo.png"], None, "balena-logo.png"),
        (["other.png"], "2.12.0", "resin-logo.png"),
    ],
)
def test_the_name_that_is_there_decides_and_then_the_version(
    present: list[str], version: str | None, name: str
) -> None:
    assert splash_path(present, version) == f"splash/{name}"
