"""A file changed in place: links to it, failures, and runs that are killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.notes import Notes, names

from drypoint.disk.device import FileDevice
from drypoint.disk.host.in_place import in_place, restore_file
from drypoint.disk.host.restore import check_restored, warn_of_half_changed
from drypoint.errors import DiskImageError, OutputError


def spoil(path: Path) -> None:
    with in_place(path) as real:
        with real.open("r+b") as file:
            file.write(b"half")
        raise ValueError("planted")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "real").mkdir()
    path = tmp_path / "real" / "disk.img"
    path.write_bytes(b"before")
    return path


def test_a_symbolic_link_stays_one_and_its_file_comes_back(image: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.img"
    link.symlink_to(Path("real") / "disk.img")
    with pytest.raises(ValueError, match="planted"):
        spoil(link)
    assert link.is_symlink()
    assert image.read_bytes() == b"before"
    assert names(tmp_path) == ["link.img", "real"]
    assert names(image.parent) == ["disk.img"]


def test_a_failure_shows_under_every_name_of_the_file(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    other.hardlink_to(image)
    with pytest.raises(ValueError, match="planted"):
        spoil(image)
    assert other.read_bytes() == b"before"
    assert other.samefile(image)
    assert names(image.parent) == ["disk.img"]


def killed(path: Path) -> Path:
    """Kill a run that has half changed *path*; where it keeps what was there before."""
    program = f"""
import os, signal
from pathlib import Path
from drypoint.disk.host.in_place import in_place
with in_place(Path({str(path)!r})) as real:
    with real.open("r+b") as file:
        file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    (backup,) = path.resolve().parent.glob(".disk.img.*.before")
    return backup


def test_after_a_kill_the_next_run_names_the_way_back_and_restore_takes_it(image: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.img"
    link.symlink_to(image)
    backup = killed(link)
    assert image.read_bytes() == b"halfre"
    with FileDevice(link) as device:
        with pytest.raises(OutputError, match="was killed") as refused:
            check_restored(device)
        notes = Notes()
        warn_of_half_changed(device, notes)
    for text in (str(refused.value), *notes.texts):
        assert str(backup) in text
        assert f"drypoint restore {link} puts that back" in text
    assert restore_file(link) == backup
    assert image.read_bytes() == b"before"
    assert names(image.parent) == ["disk.img"]
    with FileDevice(link) as device:
        check_restored(device)
    with pytest.raises(OutputError, match="nothing to put back"):
        restore_file(link)


def test_restore_gives_every_name_its_content_back(image: Path, tmp_path: Path) -> None:
    (tmp_path / "other.img").hardlink_to(image)
    killed(image)
    restore_file(image)
    assert (tmp_path / "other.img").read_bytes() == b"before"


def test_nothing_is_restored_under_a_run(image: Path) -> None:
    killed(image)
    with FileDevice(image) as device:
        device.lock(exclusive=True)
        with pytest.raises(OutputError, match="another program uses it"):
            restore_file(image)
    assert image.read_bytes() == b"halfre"


def test_a_copy_that_cannot_be_removed_is_a_warning(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    notes = Notes()
    with in_place(image, progress=notes) as real:
        real.write_bytes(b"after")
        monkeypatch.setattr(Path, "unlink", refuse)
    assert image.read_bytes() == b"after"
    (note,) = notes.texts
    assert "is changed, and complete" in note
    assert ".before" in note


def test_what_cannot_be_put_back_names_both_failures(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def spoil_for_good() -> None:
        with in_place(image) as real:
            real.write_bytes(b"half")
            monkeypatch.setattr(os, "ftruncate", refuse)
            raise ValueError("planted")

    (tmp_path / "other.img").hardlink_to(image)
    with pytest.raises(
        DiskImageError, match=r"is damaged now: Input/output error.*tries again\. What failed first: planted"
    ):
        spoil_for_good()
    monkeypatch.undo()
    restore_file(image)
    assert image.read_bytes() == b"before"
