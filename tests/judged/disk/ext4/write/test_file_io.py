"""libext2fs on a file whose system calls are interrupted, write too little, or fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.ext4_images import judge_ext4, make_ext4

from drypoint.disk.device import FileDevice, Window
from drypoint.disk.ext4.write.filesystem import Ext4Filesystem
from drypoint.errors import DiskImageError

pytestmark = pytest.mark.needs("mkfs.ext4", "e2fsck")
SIZE = 16 << 20
OFFSET = 1 << 20
PROGRAM = """
import sys
from pathlib import Path
from drypoint.disk.device import FileDevice, Window
from drypoint.fstree import Directory, Metadata, Regular
from drypoint.sinks.ext4 import Ext4Sink
with FileDevice(Path(sys.argv[1]), writable=True) as device:
    with Ext4Sink(Window(device, 1 << 20, 16 << 20), now=1) as sink:
        sink.add(Directory(b"d", Metadata(0o755)))
        for number in range(300):
            sink.add(Regular(b"d/%d" % number, Metadata(0o644), 5000), (bytes(5000),))
        sink.finish()
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_ext4(tmp_path / "image", SIZE, offset=OFFSET)


@pytest.mark.needs("strace")
def test_calls_that_are_interrupted_are_made_again(image: Path, tmp_path: Path) -> None:
    faults = ["-e", "trace=pwrite64,write,pread64", "-e", "inject=pwrite64,write:error=EINTR:when=1+2"]
    traced = subprocess.run(
        ["strace", "-f", "-o", tmp_path / "calls", *faults, sys.executable, "-c", PROGRAM, image],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (traced.returncode, traced.stderr) == (0, "")
    interrupted = [line for line in (tmp_path / "calls").read_text().splitlines() if "EINTR" in line]
    # pwrite64, which the library follows by one write, and that one, too.
    assert any(" pwrite64(" in line for line in interrupted)
    assert any(" write(" in line for line in interrupted)
    judge_ext4(image, offset=OFFSET)


def test_a_write_that_was_cut_short_is_finished_and_one_that_fails_is_named(image: Path) -> None:
    with FileDevice(image, writable=True) as device:
        filesystem = Ext4Filesystem(Window(device, OFFSET, SIZE), now=1)
        ffi, channel = filesystem.library.ffi, filesystem.handle.io
        data = ffi.new("char[]", os.urandom(8192))
        # As the library calls it behind a short write: the last argument is its error.
        assert channel.write_error(channel, 3000, 8192 // filesystem.block_size, data, 8192, 100, 5) == 0
        place = OFFSET + 3000 * filesystem.block_size
        assert device.read(place, 8192) == ffi.buffer(data, 8192)[:]
        again = ffi.new("char[]", 8192)
        assert channel.read_error(channel, 3000, 8192 // filesystem.block_size, again, 8192, 100, 5) == 0
        assert ffi.buffer(again, 8192)[:] == ffi.buffer(data, 8192)[:]
        assert channel.manager.write_byte == ffi.NULL
        full = OSError(errno.ENOSPC, "No space left on device")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(full))
            assert channel.write_error(channel, 3000, 1, data, filesystem.block_size, 0, 5) != 0
        with pytest.raises(DiskImageError, match=r"cannot write .*image.*: No space left on device") as failed:
            filesystem.check(5, "cannot write inodes")
        assert failed.value.__cause__ is full
        filesystem.abort()


def test_what_cannot_be_read_to_its_end_stays_an_error(image: Path) -> None:
    with FileDevice(image, writable=True) as device:
        filesystem = Ext4Filesystem(Window(device, OFFSET, SIZE), now=1)
        channel = filesystem.handle.io
        buffer = filesystem.library.ffi.new("char[]", 8192)
        assert channel.read_error(channel, 1 << 30, 8192 // filesystem.block_size, buffer, 8192, 0, 5) == 5
        filesystem.abort()
