"""What can be a device, and what cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drypoint.disk import FileDevice
from drypoint.errors import DiskImageError


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DiskImageError, match="fifo is not a disk image: it is neither a file nor a block device"):
        FileDevice(tmp_path / "fifo")


@pytest.mark.parametrize(("path", "what"), [("/", "a directory"), ("/dev/null", "neither a file nor a block device")])
def test_what_has_no_bytes_at_offsets_is_refused(path: str, what: str) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - not a tree to walk
    with pytest.raises(DiskImageError, match=f"{path} is not a disk image: it is {what}"):
        FileDevice(Path(path))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_file_is_read_at_any_offset(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"0123456789")
    with FileDevice(tmp_path / "disk") as device:
        assert (device.size, device.read(3, 4)) == (10, b"3456")
        with pytest.raises(DiskImageError, match="ends at byte 10"):
            device.read(8, 3)
