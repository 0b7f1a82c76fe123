"""Splash images: the name on the disk, and PNG files, made here chunk by chunk as the specification has it."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

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


def image(
    *, split: int = 1, width: int = 5, height: int = 3, bits: int = 8, colour: int = 0, interlace: int = 0
) -> bytes:
    """An image of one colour; interlaced, its rows are not in the order of Adam7."""
    data = zlib.compress((b"\0" + bytes(-(-width * bits * SAMPLES[colour] // 8))) * height)
    size = -(-len(data) // split)
    palette = [(b"PLTE", bytes(6))] if colour == 3 else []
    parts = [(b"IDAT", data[at : at + size]) for at in range(0, len(data), size)]
    return png(header(width, height, bits, colour, interlace), (b"tEXt", b"a\0b"), *palette, *parts, END)


@pytest.mark.parametrize(("colour", "bits"), COLOURS)
@pytest.mark.parametrize("interlace", [0, 1])
def test_every_kind_of_png_is_taken(colour: int, bits: int, interlace: int) -> None:
    content = image(width=13, height=9, bits=bits, colour=colour, interlace=interlace, split=3)
    assert check_png(content, "logo.png") == content


IDAT = (b"IDAT", zlib.compress(bytes(18)))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no PNG signature"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "no PNG signature"),
        (SIGNATURE, "cut off"),
        (png(header(), IDAT), "cut off"),
        (png(header(), IDAT, END)[:-1], "cut off"),
        (png(header(), IDAT, END) + b"x", "data after its end"),
        (png(header(), IDAT, END).replace(b"IDAT", b"IDAU"), "checksum"),
        (png(IDAT, END), "begin with a header"),
        (png((b"IHDR", bytes(12)), IDAT, END), "begin with a header"),
        (png(header(0, 3), IDAT, END), "0 × 3 pixels"),
        (png(header(8193, 3), IDAT, END), "8193 × 3"),
        (png(header(bits=3), IDAT, END), "colour type"),
        (png(header(colour=2, bits=4), IDAT, END), "colour type"),
        (png(header(colour=5), IDAT, END), "colour type"),
        (png(header(interlace=2), IDAT, END), "colour type"),
        (png(header(), END), "no pixels"),
        (png(header(), (b"ID1T", b""), END), "no chunk at byte 33"),
        (SIGNATURE + struct.pack(">I", 0xFFFFFFFF) + b"IHDR" + bytes(13), "cut off"),
        (bytes(splash.MAX_SPLASH_BYTES + 1), "too many for a splash image"),
    ],
)
def test_what_cannot_be_shown_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=rf"^logo\.png .*{why}"):
        check_png(content, "logo.png")


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
