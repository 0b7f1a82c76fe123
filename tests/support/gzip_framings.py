"""gzip of one content in many framings: members, flushes, stored blocks, usual and unusual ones."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias


class Cut(IntEnum):
    """A writer's action at a position of the content; the first values are zlib's."""

    PARTIAL_FLUSH = zlib.Z_PARTIAL_FLUSH
    SYNC_FLUSH = zlib.Z_SYNC_FLUSH
    FULL_FLUSH = zlib.Z_FULL_FLUSH
    BLOCK = zlib.Z_BLOCK
    MEMBER = 100
    """Ends the member and starts another."""
    EMPTY_MEMBER = 101
    """The same, with an empty member between the two."""


Framing: TypeAlias = Sequence[tuple[int, Cut]]
"""Positions in the content, sorted, and the action there; a position may have several."""


def framed(content: bytes, framing: Framing, level: int = 6) -> bytes:
    """*content* as gzip in *framing*; level 0 makes stored blocks."""
    made = bytearray()
    member = zlib.compressobj(level, wbits=31)
    begin = 0
    for place, cut in framing:
        made += member.compress(content[begin:place])
        begin = place
        if cut in (Cut.MEMBER, Cut.EMPTY_MEMBER):
            made += member.flush()
            if cut is Cut.EMPTY_MEMBER:
                made += zlib.compress(b"", wbits=31)
            member = zlib.compressobj(level, wbits=31)
        else:
            made += member.flush(int(cut))
    return bytes(made + member.compress(content[begin:]) + member.flush())


def like_pgzip(content: bytes, block: int = 1 << 20) -> bytes:
    """The framing of klauspost/pgzip: a flush after each block, also after the last one."""
    places = [*range(block, len(content), block), len(content)]
    return framed(content, [(place, Cut.SYNC_FLUSH) for place in places])


def random_framing(size: int, interesting: int, chance: random.Random) -> Framing:
    """Up to a dozen cuts of *size* bytes, most of them around or after the position *interesting*."""
    cuts: list[tuple[int, Cut]] = []
    for _ in range(chance.choice((0, 1, 1, 2, 3, 5, 12))):
        place = chance.choice(
            (
                chance.randint(0, size),
                chance.randint(min(interesting, size), size),
                min(size, max(0, interesting + chance.choice((-1024, -512, -1, 0, 1, 32768)))),
                size,
            )
        )
        cuts.append((place, chance.choice(list(Cut))))
    return sorted(cuts, key=lambda cut: cut[0])
