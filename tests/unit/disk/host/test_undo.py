"""A device whose changes can be taken back."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint.disk.device import FileDevice
from drypoint.disk.host.scratch import nameless_file
from drypoint.disk.host.undo import UndoDevice, restore_device, undoing
from drypoint.disk.host.undo_log import UndoLog, find_log
from drypoint.errors import DiskImageError, OutputError

_SIZE = 4096
_WRITES = st.lists(
    st.tuples(st.integers(0, _SIZE - 1), st.binary(min_size=1, max_size=600)).map(
        lambda item: (item[0], item[1][: _SIZE - item[0]])
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(writes=_WRITES, seed=st.integers(0, 255))
def test_whatever_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], seed: int
) -> None:
    path = tmp_path_factory.mktemp("undo") / "device"
    before = bytes((seed + index * 7) % 256 for index in range(_SIZE))
    path.write_bytes(before)
    with FileDevice(path, writable=True) as device, nameless_file(path.parent) as fd:
        undo = UndoDevice(device, UndoLog(fd))
        model = bytearray(before)
        for offset, data in writes:
            undo.write(offset, data)
            model[offset : offset + len(data)] = data
        assert undo.read(0, _SIZE) == bytes(model)
        undo.roll_back()
    assert path.read_bytes() == before


def test_each_byte_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(os.urandom(1 << 20))
    with FileDevice(path, writable=True) as device, nameless_file(tmp_path) as fd:
        log = UndoLog(fd)
        undo = UndoDevice(device, log)
        for _ in range(3):
            for offset in range(0, 1 << 20, 4096):
                undo.write(offset, bytes(4096))
        assert sum(len(data) for _, data in log.records()) == 1 << 20


def test_a_block_that_fails_leaves_the_device_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "device"
    before = os.urandom(8192)
    path.write_bytes(before)
    with pytest.raises(ZeroDivisionError), undoing(path, tmp_path) as device:
        _damage(device)
    assert path.read_bytes() == before
    with undoing(path, tmp_path) as device:
        device.write(0, b"kept")
    assert path.read_bytes()[:4] == b"kept"


def test_no_room_for_what_has_to_be_kept_is_told(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(bytes(8192))
    with FileDevice(path, writable=True) as device, open("/dev/full", "r+b", buffering=0) as full:
        with pytest.raises(OutputError, match="set TMPDIR"):
            UndoDevice(device, UndoLog(full.fileno())).write(0, b"data")
    assert path.read_bytes() == bytes(8192)


def _damage(device: UndoDevice) -> None:
    before = device.read(0, 8192)
    device.write(100, b"x" * 5000)
    assert device.read(0, 8192) != before
    raise ZeroDivisionError


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, bytes]:
    """A device that a run was changing when it was killed, and what it held before."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = tmp_path / "device"
    before = os.urandom(2 << 20)
    path.write_bytes(before)
    program = f"""
import os, signal
from pathlib import Path
from drypoint.disk.host.undo import undoing
with undoing(Path({str(path)!r}), Path({str(tmp_path)!r})) as device:
    for offset in range(4096, (1 << 20) - 8192, 8192):
        device.write(offset, bytes(5000))
    device.write(1 << 20, bytes(1 << 20))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert path.read_bytes() != before
    return path, before


def test_what_a_killed_run_kept_is_found_and_put_back(killed: tuple[Path, bytes]) -> None:
    path, before = killed
    (log,) = path.parent.glob("device.*.drypoint-undo")
    assert log.stat().st_mode & 0o7777 == 0o600
    with FileDevice(path) as device:
        assert find_log(device) == log
    assert restore_device(path) == log
    assert path.read_bytes() == before
    assert not log.exists()
    with pytest.raises(OutputError, match="nothing to put back"):
        restore_device(path)


def test_a_record_that_is_torn_is_not_put_back(killed: tuple[Path, bytes]) -> None:
    path, before = killed
    (log,) = path.parent.glob("device.*.drypoint-undo")
    os.truncate(log, log.stat().st_size - 1)
    restore_device(path)
    assert path.read_bytes() == before[: 1 << 20] + bytes(1 << 20)


@pytest.mark.parametrize("change", ["serial number", "size", "name of the log", "log in use"])
def test_what_belongs_to_another_medium_or_run_is_not_taken(killed: tuple[Path, bytes], change: str) -> None:
    path, _ = killed
    (log,) = path.parent.glob("device.*.drypoint-undo")
    with ExitStack() as stack:
        if change == "serial number":
            with path.open("r+b") as file:
                file.seek(440)
                file.write(bytes(4))
        elif change == "size":
            os.truncate(path, 4 << 20)
        elif change == "name of the log":
            log.rename(path.parent / "elsewhere")
            log.symlink_to("elsewhere")
        else:
            fcntl.flock(stack.enter_context(log.open("rb")), fcntl.LOCK_EX)
        with FileDevice(path) as device:
            assert find_log(device) is None


def test_a_device_that_fails_for_good_keeps_its_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = tmp_path / "device"
    before = os.urandom(8192)
    path.write_bytes(before)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def lose() -> None:
        with undoing(path, tmp_path) as device:
            device.write(100, b"x" * 5000)
            monkeypatch.setattr(os, "fsync", fail)
            raise ZeroDivisionError("planted")

    with pytest.raises(
        DiskImageError, match=r"is damaged now.*drypoint restore .*tries again\. What failed first: planted"
    ):
        lose()
    monkeypatch.undo()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    restore_device(path)
    assert path.read_bytes() == before
