"""Results and their names: several at once, faults before and after, runs that were killed or are under way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.notes import Notes, names

from drypoint.disk.device import FileDevice
from drypoint.disk.host.output import whole_file, whole_files
from drypoint.errors import OutputError


def write_both(directory: Path, *, overwrite: bool = False) -> None:
    with whole_files((directory / "out.img", directory / "out.bmap"), overwrite=overwrite) as parts:
        for part in parts:
            part.path.write_bytes(b"new")


def fail_with(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("one", ["out.img", "out.bmap"])
def test_a_name_that_cannot_be_taken_leaves_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, overwrite: bool
) -> None:
    if overwrite:
        for name in ("out.img", "out.bmap"):
            (tmp_path / name).write_bytes(b"old")
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}
    method = "replace" if overwrite else "hardlink_to"
    real = getattr(Path, method)

    def refuse(self: Path, target: Path) -> None:
        # A result takes its name; what is put back is not a new one.
        name = target.name if overwrite else self.name
        if name == one and (self if overwrite else target).read_bytes() == b"new":
            raise OSError(errno.EIO, "Input/output error")
        real(self, target)

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(OutputError, match=f"cannot write .*{one}: Input/output error"):
        write_both(tmp_path, overwrite=overwrite)
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before


def test_a_result_that_cannot_be_flushed_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(errno.EIO))
    with pytest.raises(OutputError, match=r"cannot write .*out\.img: Input/output error"):
        write_both(tmp_path)
    assert names(tmp_path) == []


def test_faults_after_the_names_are_taken_are_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def refuse(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_dir():
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    notes = Notes()
    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(Path, "unlink", fail_with(errno.EPERM))
    with whole_file(tmp_path / "out.img", progress=notes) as part:
        part.path.write_bytes(b"new")
    assert (tmp_path / "out.img").read_bytes() == b"new"
    assert len(notes.texts) == 2
    assert "cannot be removed: Operation not permitted" in notes.texts[0]
    assert "is complete, but its name may not survive a loss of power" in notes.texts[1]


def test_no_free_inode_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 1000, 500, 500, 64, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    monkeypatch.setattr(os, "open", fail_with(errno.ENOSPC))
    with pytest.raises(
        OutputError, match=r"has no free inode \(64 are in use, 2048000 bytes are left\); remove files there"
    ):
        write_both(tmp_path)


def killed(target: Path) -> Path:
    program = f"""
import os, signal
from pathlib import Path
from drypoint.disk.host.output import whole_file
with whole_file(Path({str(target)!r})) as part:
    part.path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    (part,) = target.parent.glob(f".{target.name}.*.part")
    return part


def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    left, other = killed(tmp_path / "out.img"), killed(tmp_path / "other.img")
    notes = Notes()
    with whole_file(tmp_path / "out.img", progress=notes) as part:
        part.path.write_bytes(b"whole")
    (note,) = notes.texts
    assert note.startswith(f"removed {left}")
    assert names(tmp_path) == sorted([other.name, "out.img"])


def test_another_run_that_makes_the_same_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path)
    with whole_file(tmp_path / "out.img") as part:
        part.path.write_bytes(b"first")
        for target in (tmp_path / "out.img", tmp_path / "linked" / "out.img"):
            with pytest.raises(OutputError, match="another run is making it now"), whole_file(target):
                pytest.fail("the block must not run")
        with whole_file(tmp_path / "out") as other:
            other.path.write_bytes(b"another name")
    assert (tmp_path / "out.img").read_bytes() == b"first"


def test_a_file_that_is_changed_in_place_is_not_replaced_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "out.img"
    target.write_bytes(b"old")
    with FileDevice(target) as device:
        device.lock(exclusive=True)
        with pytest.raises(OutputError, match="changing it in place"), whole_file(target, overwrite=True):
            pytest.fail("the block must not run")
    with whole_file(target, overwrite=True), FileDevice(target) as device:
        with pytest.raises(OutputError, match="another program uses it"):
            device.lock(exclusive=True)
    assert names(tmp_path) == ["out.img"]


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_not_a_file_is_not_removed(tmp_path: Path, kind: str) -> None:
    left = tmp_path / ".out.img.01234567.part"
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    if kind == "link":
        left.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(left)
    else:
        left.mkdir()
    with whole_file(tmp_path / "out.img") as part:
        part.path.write_bytes(b"whole")
    assert os.path.lexists(left)
    assert victim.read_bytes() == b"precious"


def test_a_file_that_cannot_be_made_leaves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: Path, *arguments: int, **options: int) -> int:
        if Path(path).name.startswith(".out.bmap."):
            raise OSError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*out\.bmap: Permission denied"):
        write_both(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("base", "secret", "expected"),
    [
        (0o644, None, 0o644),
        (0o600, None, 0o600),
        (0o640, 0o644, 0o640),
        (0o644, 0o600, 0o600),
        # Group and others apart: the group may read, the others may not.
        (0o444, 0o440, 0o640),
        (0o000, None, 0o600),
    ],
)
def test_others_have_only_the_rights_that_they_have_on_what_goes_into_it(
    tmp_path: Path, base: int, secret: int | None, expected: int
) -> None:
    source, config = tmp_path / "base.img", tmp_path / "config.json"
    for path, mode in ((source, base), (config, secret)):
        path.touch()
        path.chmod(0o644 if mode is None else mode)
    old = os.umask(0o022)
    try:
        with whole_files((tmp_path / "out.img", tmp_path / "map"), inputs=(source,), secrets=(config,)) as parts:
            with (tmp_path / "scratch").open("w+b") as other:
                parts[0].adopt(other.fileno())
        assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("out.img", "map")} == {expected}
    finally:
        os.umask(old)


def test_a_group_that_is_another_counts_as_others(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files to any group")
    source = tmp_path / "base.img"
    source.touch()
    os.chown(source, 0, 12345)
    source.chmod(0o640)
    with whole_file(tmp_path / "out.img", inputs=(source,)) as part:
        assert part.path.stat().st_mode & 0o777 == 0o600
