"""File systems inside a fragmented file of another file system."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ext4_images import judge_ext4, make_ext4
from tests.support.flasher_images import write_in_pieces

from drypoint.disk import FileDevice, Window
from drypoint.disk.ext4.read.file_device import Ext4FileDevice, open_ext4_file
from drypoint.disk.ext4.write.file_blocks import allocate_file
from drypoint.samples.tools import run_tool

OFFSET = 1 << 20
INNER = b"inner.img"
NOW = 1_700_000_000
MIB = 1 << 20


class ScatteredFile:
    """*inner* as a file of an ext4 file system at OFFSET of *path*, in pieces of *piece* bytes."""

    def __init__(self, path: Path, inner: Path, *options: str, size: int = 64 * MIB, piece: int = 64 << 10) -> None:
        self.path = make_ext4(path, size, *options, offset=OFFSET)
        self.size = size
        pieces = (inner.stat().st_blocks * 512 + inner.stat().st_size) // piece // 2 + 8
        write_in_pieces(self.path, OFFSET, inner, INNER.decode(), pieces=pieces, piece=piece)

    @contextmanager
    def opened(self, *, allocated: bool = True) -> Iterator[Ext4FileDevice]:
        """The file as a writable device; *allocated*: with blocks for its holes."""
        with FileDevice(self.path, writable=True) as disk:
            outer = Window(disk, OFFSET, self.size)
            if allocated:
                allocate_file(outer, INNER, [(0, open_ext4_file(outer, INNER).size)], 0, now=NOW)
            yield open_ext4_file(outer, INNER)

    def dump(self, target: Path) -> Path:
        """The file as debugfs reads it, after e2fsck has checked the outer file system."""
        judge_ext4(self.path, offset=OFFSET)
        run_tool("debugfs", "-R", f"dump /{INNER.decode()} {target}", f"{self.path}?offset={OFFSET}")
        return target
