"""Results that appear whole or not at all, and copies that keep holes."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint.disk.device import FileDevice
from drypoint.disk.host import copies as copy
from drypoint.disk.host.copies import copy_sparse, data_extents
from drypoint.disk.host.in_place import in_place
from drypoint.disk.host.output import whole_file
from drypoint.disk.host.scratch import nameless_file
from drypoint.errors import DiskImageError, OutputError

MIB = 1 << 20


def fail_with(target: Path, error: BaseException, *, overwrite: bool = False) -> None:
    """Write a megabyte of a result, then fail."""
    with whole_file(target, overwrite=overwrite) as part:
        part.path.write_bytes(os.urandom(MIB))
        raise error


def lose_the_race(target: Path) -> None:
    """Write a result, but let another program take its name meanwhile."""
    with whole_file(target) as part:
        part.path.write_bytes(b"mine")
        target.write_bytes(b"theirs")


def names(directory: Path) -> list[str]:
    return sorted(item.name for item in directory.iterdir())


def test_a_result_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.img"
    with whole_file(target) as part:
        assert part.path.parent == tmp_path
        assert part.path.name.startswith(".out.img.")
        part.path.write_bytes(b"result")
        assert not target.exists()
    assert target.read_bytes() == b"result"
    assert names(tmp_path) == ["out.img"]
    assert target.stat().st_nlink == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail_with(tmp_path / "out.img", error())
    assert names(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from drypoint.disk.host.output import whole_file
with whole_file(Path({str(tmp_path / "out.img")!r})) as part:
    part.path.write_bytes(b"half")
    time.sleep(60)
"""
    # The tests themselves may run in the background, where interrupts are ignored.
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        for _ in range(500):
            if any(item.stat().st_size for item in tmp_path.iterdir()):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) != 0
    assert names(tmp_path) == []


def test_an_older_file_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.img"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="it exists; remove it"), whole_file(target):
        pytest.fail("the block must not run")
    with pytest.raises(ValueError, match="half"):
        fail_with(target, ValueError("half"), overwrite=True)
    assert target.read_bytes() == b"old"
    with whole_file(target, overwrite=True) as part:
        part.path.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["out.img"]


def test_a_file_that_came_up_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.img"
    with pytest.raises(OutputError, match="another program made it meanwhile"):
        lose_the_race(target)
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out.img"]


def test_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    target = tmp_path / "out.img"
    with whole_file(target) as part:
        part.path.write_bytes(b"mine")
    assert names(tmp_path) == ["out.img"]
    target.unlink()
    with pytest.raises(OutputError, match="meanwhile"):
        lose_the_race(target)
    assert target.read_bytes() == b"theirs"


def test_impossible_targets_are_refused(tmp_path: Path) -> None:
    base = tmp_path / "base.img"
    base.write_bytes(b"base")
    (tmp_path / "link.img").symlink_to(base)
    cases = [
        (tmp_path / "missing" / "out.img", r"directory .*missing does not exist"),
        (tmp_path, "it is a directory"),
        (base, "it is the input"),
        (tmp_path / "link.img", "it is the input"),
        (Path("/dev/null"), "not a regular file"),
    ]
    for target, message in cases:
        with pytest.raises(OutputError, match=message), whole_file(target, overwrite=True, inputs=(base,)):
            pytest.fail("the block must not run")
    assert base.read_bytes() == b"base"
    assert names(tmp_path) == ["base.img", "link.img"]


def test_a_link_that_leads_nowhere_is_refused_before_the_work(tmp_path: Path) -> None:
    target = tmp_path / "out.img"
    target.symlink_to("missing")
    with pytest.raises(OutputError, match="symbolic link that leads nowhere"), whole_file(target):
        pytest.fail("the block must not run")
    with whole_file(target, overwrite=True) as part:
        part.path.write_bytes(b"new")
    assert not target.is_symlink()
    assert names(tmp_path) == ["out.img"]


def test_a_full_file_system_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"file system of .* is full \(1048576 bytes were written, \d+ are left\)"):
        fail_with(tmp_path / "out.img", OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []
    wrapped = DiskImageError("cannot write")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(OutputError, match="is full"):
        fail_with(tmp_path / "out.img", wrapped)
    with pytest.raises(FileNotFoundError):
        fail_with(tmp_path / "out.img", FileNotFoundError(errno.ENOENT, "something else of the caller's"))


def fill(target: Path) -> None:
    with whole_file(target) as part, FileDevice(part.path, writable=True) as device:
        device.extend(4 * MIB)
        device.write(0, b"x" * (2 * MIB))


@pytest.mark.engine
def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)], check=True)
    try:
        with pytest.raises(OutputError, match=r"is full \(\d+ bytes were written, 0 are left\)"):
            fill(tmp_path / "out.img")
        assert names(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def adopted(target: Path, directory: Path) -> tuple[os.stat_result, os.stat_result]:
    """Let a nameless file in *directory* become *target*: what it was, and what *target* is."""
    with nameless_file(directory) as fd:
        os.pwrite(fd, b"scratch", MIB)
        os.ftruncate(fd, 4 * MIB)
        with whole_file(target) as part:
            part.adopt(fd)
            with part.path.open("r+b") as file:
                file.write(b"more")
        return os.fstat(fd), target.stat()


def test_a_nameless_file_becomes_the_result(tmp_path: Path) -> None:
    (tmp_path / "like").touch()
    before, after = adopted(tmp_path / "out.img", tmp_path)
    assert before.st_ino == after.st_ino
    assert after.st_mode == (tmp_path / "like").stat().st_mode
    assert (tmp_path / "out.img").read_bytes() == b"more".ljust(MIB, b"\0") + b"scratch".ljust(3 * MIB, b"\0")
    assert names(tmp_path) == ["like", "out.img"]


@pytest.mark.parametrize("why", [errno.EXDEV, errno.ENOENT])
def test_a_nameless_file_that_cannot_be_linked_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: int
) -> None:
    if why == errno.EXDEV:
        link = os.link

        def refuse(source: str, target: Path, **how: int) -> None:
            if how.get("src_dir_fd"):
                raise OSError(why, os.strerror(why))
            link(source, target)

        monkeypatch.setattr(os, "link", refuse)
    else:
        # A file that had a name once: what there is where the file system makes no nameless ones.
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_CREAT, raising=True)
    before, after = adopted(tmp_path / "out.img", tmp_path)
    assert before.st_ino != after.st_ino
    assert after.st_blocks * 512 < MIB
    assert (tmp_path / "out.img").read_bytes() == b"more".ljust(MIB, b"\0") + b"scratch".ljust(3 * MIB, b"\0")
    assert names(tmp_path) == ["out.img"]


def test_a_failure_after_adopting_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with nameless_file(tmp_path) as fd, whole_file(tmp_path / "out.img") as part:
            part.adopt(fd)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - our own, above
        fail()
    assert names(tmp_path) == []


def test_no_room_for_a_copy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with nameless_file(tmp_path) as fd, whole_file(tmp_path / "out.img") as part:
            os.pwrite(fd, b"scratch", 0)
            part.adopt(fd)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OutputError, match="is full"):
        fail()
    assert names(tmp_path) == []


def test_a_change_in_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"before")
    inode = path.stat().st_ino
    with in_place(path) as same:
        assert same == path
        path.write_bytes(b"after")
    assert path.read_bytes() == b"after"
    assert path.stat().st_ino == inode
    assert names(tmp_path) == ["disk.img"]


def spoil_in_place(path: Path, error: BaseException) -> None:
    with in_place(path):
        path.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_change_in_place_is_undone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 64 * MIB)
    with path.open("r+b") as file:
        file.seek(32 * MIB)
        file.write(b"before")
    path.chmod(0o640)
    before, blocks = path.read_bytes(), path.stat().st_blocks
    with pytest.raises(error):
        spoil_in_place(path, error())
    assert path.read_bytes() == before
    assert path.stat().st_blocks <= blocks + 16
    assert path.stat().st_mode & 0o7777 == 0o640
    assert names(tmp_path) == ["disk.img"]


def test_what_cannot_be_changed_in_place(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a regular file"), in_place(tmp_path / "missing"):
        pytest.fail("the block must not run")
    with pytest.raises(OutputError, match="not a regular file"), in_place(tmp_path):
        pytest.fail("the block must not run")


@pytest.fixture(params=["kernel", "by hand"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "by hand":

        def refuse(*_: object) -> int:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    return str(request.param)


def copied(source: Path, target: Path) -> tuple[int, list[int]]:
    passed: list[int] = []
    with source.open("rb") as reader, target.open("w+b") as writer:
        count = copy_sparse(reader.fileno(), writer.fileno(), progress=passed.append)
    return count, passed


def test_a_copy_keeps_holes(tmp_path: Path, way: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.touch()
    os.truncate(source, 100 * MIB)
    with source.open("r+b") as file:
        for offset in (0, 50 * MIB, 70 * MIB):
            file.seek(offset)
            file.write(os.urandom(3 * MIB))
    count, passed = copied(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks == source.stat().st_blocks
    assert count == 9 * MIB
    assert sum(passed) == 100 * MIB
    with source.open("rb") as one, target.open("rb") as two:
        assert list(data_extents(one.fileno(), 0, 100 * MIB)) == list(data_extents(two.fileno(), 0, 100 * MIB))


def test_a_part_is_copied_to_another_place(tmp_path: Path, way: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 4096)
    target.write_bytes(b"head")
    with source.open("rb") as reader, target.open("r+b") as writer:
        copy_sparse(reader.fileno(), writer.fileno(), source_offset=1000, target_offset=5000, length=70000)
    assert target.read_bytes() == b"head" + bytes(4996) + source.read_bytes()[1000:71000]


def test_empty_and_all_hole_files(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.touch()
    assert copied(source, target) == (0, [])
    os.truncate(source, 5 * MIB)
    assert copied(source, target) == (0, [5 * MIB])
    assert (target.stat().st_size, target.stat().st_blocks) == (5 * MIB, 0)


def test_a_source_that_is_too_short(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100)
    with source.open("rb") as reader, (tmp_path / "target").open("w+b") as writer:
        with pytest.raises(DiskImageError, match="ends before byte 101"):
            copy_sparse(reader.fileno(), writer.fileno(), length=101)
        with pytest.raises(DiskImageError, match="50 bytes early"):
            copy.copy_range(reader.fileno(), 50, writer.fileno(), 0, 100)


def test_an_error_of_the_disk_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "copy_file_range", fail)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100)
    with pytest.raises(OSError, match="Input/output error"):
        copied(source, tmp_path / "target")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400_000), st.binary(min_size=1, max_size=2000)), max_size=8),
    st.integers(0, 10**6),
)
def test_any_file_is_copied_whole(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], size: int
) -> None:
    source = tmp_path_factory.getbasetemp() / "any-source"
    source.write_bytes(b"")
    with source.open("r+b") as file:
        for offset, data in writes:
            file.seek(offset)
            file.write(data)
    os.truncate(source, size)
    target = tmp_path_factory.getbasetemp() / "any-target"
    _, passed = copied(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert sum(passed) == size
