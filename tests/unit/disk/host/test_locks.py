"""One run that changes a disk image, or many that read it, by whatever name they open it."""

from __future__ import annotations

from pathlib import Path

import pytest

from drypoint.disk.device import FileDevice
from drypoint.errors import DiskImageError, OutputError


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    return path


@pytest.mark.parametrize("name", ["itself", "symbolic link", "hard link", "directory link"])
def test_a_second_writer_is_refused_under_every_name(image: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / "other.img"
    if name == "symbolic link":
        other.symlink_to(image)
    elif name == "hard link":
        other.hardlink_to(image)
    elif name == "directory link":
        (tmp_path / "linked").symlink_to(tmp_path)
        other = tmp_path / "linked" / "disk.img"
    else:
        other = image
    with FileDevice(image) as first, FileDevice(other) as second:
        first.lock(exclusive=True)
        with pytest.raises(OutputError, match=f"cannot change {other} in place: another program uses it now"):
            second.lock(exclusive=True)
        with pytest.raises(DiskImageError, match=f"cannot read {other}: another program is changing it now"):
            second.lock(exclusive=False)
    with FileDevice(other) as later:
        later.lock(exclusive=True)


def test_many_may_read(image: Path) -> None:
    with FileDevice(image) as first, FileDevice(image) as second:
        first.lock(exclusive=False)
        second.lock(exclusive=False)
        with pytest.raises(OutputError, match="another program uses it now"):
            second.lock(exclusive=True)


def test_the_only_reader_may_become_the_writer(image: Path) -> None:
    with FileDevice(image) as device, FileDevice(image) as other:
        device.lock(exclusive=False)
        device.lock(exclusive=True)
        with pytest.raises(DiskImageError, match="changing it now"):
            other.lock(exclusive=False)


def test_a_file_that_was_replaced_since_it_was_opened_is_refused(image: Path) -> None:
    with FileDevice(image) as device:
        new = image.with_name("new")
        new.write_bytes(bytes(4096))
        new.replace(image)
        with pytest.raises(DiskImageError, match="was replaced by another file just now; try again"):
            device.lock(exclusive=True)


def test_a_lock_ends_with_the_device(image: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with FileDevice(image) as device:
        device.lock(exclusive=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
