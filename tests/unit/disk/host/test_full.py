"""File systems of the host that are full: which one it is, and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from drypoint.disk.host.full import is_full, scratch_space
from drypoint.disk.host.output import whole_file
from drypoint.disk.host.scratch import nameless_file
from drypoint.errors import DiskImageError, OutputError


def statvfs(*, blocks: int, inodes: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 1000, blocks, blocks, 64, inodes, inodes, 0, 255))


def write(directory: Path) -> None:
    with scratch_space(directory):
        raise DiskImageError("cannot write 5 bytes at 0 of /proc/1/fd/4") from OSError(errno.ENOSPC, "No space left")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (statvfs(blocks=3, inodes=9), r"the file system of {} is full \(12288 bytes are left\); free some space there"),
        (statvfs(blocks=999, inodes=0), r"the file system of {} has no free inode; free"),
    ],
)
def test_temporary_files_without_space_name_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: os.statvfs_result, said: str
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    with pytest.raises(OutputError, match=said.format(tmp_path)) as failed:
        write(tmp_path)
    assert "set TMPDIR to a directory with more space" in str(failed.value)
    assert not is_full(failed.value)


def test_another_file_system_is_not_blamed(tmp_path: Path) -> None:
    with pytest.raises(DiskImageError, match="cannot write 5 bytes"):
        write(tmp_path)


def test_the_output_is_not_blamed_for_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill() -> None:
        with whole_file(tmp_path / "out.img"), nameless_file(tmp_path / "scratch"):
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(os, "statvfs", lambda _: statvfs(blocks=0, inodes=9))
    with pytest.raises(OutputError, match=r"cannot write temporary files: the file system of .*scratch is full"):
        fill()


def test_a_directory_for_temporary_files_that_is_missing_names_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match="No such file or directory; set TMPDIR"), nameless_file(tmp_path / "missing"):
        pytest.fail("the block must not run")
