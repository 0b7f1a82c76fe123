"""Ranges that move inside a device: by blocks, by copying, and where the bytes lie scattered. A plain model is the judge."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.devices import MemoryDevice

from drypoint.disk.device import Device, FileDevice
from drypoint.disk.host.fallocate import collapse_range, insert_range
from drypoint.disk.tables import moving
from drypoint.disk.tables.moving import Move, clear_range, move_range
from drypoint.errors import DiskImageError

KIB = 1 << 10
UNIT = 4 * KIB


def modelled(before: bytes, move: Move) -> bytes:
    """What :class:`Move` says, word by word."""
    after = bytearray(before)
    target = move.offset + move.delta
    first, last = sorted((move.offset, target))
    after[first : last + move.length] = bytes(last + move.length - first)
    after[target : target + move.length] = before[move.offset : move.offset + move.length]
    return bytes(after)


def sparse_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.truncate(len(data))
        for at in range(0, len(data), UNIT):
            if any(data[at : at + UNIT]):
                file.seek(at)
                file.write(data[at : at + UNIT])


def pattern(blocks: list[int], size: int) -> bytes:
    """A block of each number, 0 a hole; cut to *size*."""
    return b"".join(bytes([number]) * UNIT for number in blocks)[:size]


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.lists(st.integers(0, 3), min_size=12, max_size=40),
    cut=st.integers(0, UNIT - 1),
    delta=st.integers(1, 12).map(lambda count: count * UNIT),
    down=st.booleans(),
    ways=st.sampled_from(["blocks", "copying", "memory"]),
    data=st.data(),
)
def test_moving_is_what_the_model_says(
    blocks: list[int], cut: int, delta: int, down: bool, ways: str, data: st.DataObject
) -> None:
    size = max(len(blocks) * UNIT - cut, delta + 2)
    before = pattern(blocks, size).ljust(size, b"\7")
    length = data.draw(st.integers(1, size - delta), label="length")
    low = data.draw(st.integers(0, size - delta - length), label="low")
    if data.draw(st.booleans(), label="aligned"):
        low = low // UNIT * UNIT
    move = Move(low + delta, length, -delta) if down else Move(low, length, delta)
    expected = modelled(before, move)
    if ways == "memory":
        memory = MemoryDevice(before, writable=True)
        move_range(memory, move)
        assert bytes(memory.content) == expected
        return
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        path = Path(directory) / "disk.img"
        sparse_file(path, before)
        if ways == "copying":
            patch.setattr(moving, "insert_range", lambda *_: False)
            patch.setattr(moving, "collapse_range", lambda *_: False)
            patch.setattr(moving, "punch_hole", lambda *_: False)
            patch.setattr(moving, "CHUNK", 3 * KIB)
            patch.setattr(moving, "STRIDE", 10 * KIB)
        with FileDevice(path, writable=True) as device:
            move_range(device, move)
        assert path.read_bytes() == expected


def test_blocks_move_without_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system can (ext4, XFS): not one byte passes through this process."""
    path = tmp_path / "disk.img"
    sparse_file(path, os.urandom(64 * UNIT) + bytes(64 * UNIT) + os.urandom(64 * UNIT) + bytes(64 * UNIT))
    with FileDevice(path, writable=True) as device:
        if not insert_range(device.fileno(), 0, UNIT) or not collapse_range(device.fileno(), 0, UNIT):
            pytest.skip("needs a file system that moves blocks")
        before = path.read_bytes()
        used = path.stat().st_blocks

        def refuse(*_: object) -> None:
            raise AssertionError("copied")

        monkeypatch.setattr(device, "write", refuse)
        monkeypatch.setattr(moving, "copy_by_chunks", refuse)
        there, back = Move(8 * UNIT, 184 * UNIT, 64 * UNIT), Move(72 * UNIT, 184 * UNIT, -64 * UNIT)
        move_range(device, there)
        assert path.read_bytes() == modelled(before, there)
        assert path.stat().st_blocks <= used
        move_range(device, back)
        assert path.read_bytes() == before
        assert path.stat().st_blocks <= used


def test_holes_stay_holes_when_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "insert_range", lambda *_: False)
    path = tmp_path / "disk.img"
    content = b"\1" * (1 << 20)
    with path.open("wb") as file:
        file.truncate(2 << 30)
        for at in (0, 700 << 20, 900 << 20):
            file.seek(at)
            file.write(content)
    with FileDevice(path, writable=True) as device:
        move_range(device, Move(0, 1 << 30, 800 << 20))
        assert list(device.data_extents(0, device.size)) == [(start << 20, 1 << 20) for start in (800, 1500, 1700)]
    assert path.stat().st_blocks * 512 < 4 << 20


def test_what_leaves_the_device_is_refused() -> None:
    for move in (Move(0, 10, 95), Move(10, 10, -11), Move(95, 6, -1)):
        with pytest.raises(DiskImageError, match="cannot move by"):
            move_range(MemoryDevice(bytes(100), writable=True), move)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "disk.img"
    path.write_bytes(b"\1" * (8 * UNIT))
    with FileDevice(path, writable=True) as device:
        monkeypatch.setattr(moving, "insert_range", full)
        with pytest.raises(DiskImageError, match=r"cannot move 4096 bytes at 0 of .*disk.img: No space left"):
            move_range(device, Move(0, UNIT, UNIT))
        monkeypatch.setattr(moving, "punch_hole", full)
        with pytest.raises(DiskImageError, match=r"cannot clear 4096 bytes at 0"):
            clear_range(device, 0, UNIT)


@pytest.mark.parametrize("punched", [True, False])
def test_clearing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, punched: bool) -> None:
    if not punched:
        monkeypatch.setattr(moving, "punch_hole", lambda *_: False)
    path = tmp_path / "disk.img"
    path.write_bytes(b"\1" * 30000)
    memory: Device = MemoryDevice(b"\1" * 30000, writable=True)
    with FileDevice(path, writable=True) as device:
        for target in (device, memory):
            clear_range(target, 5000, 20000)
            clear_range(target, 0, 0)
            assert target.read(0, 30000) == b"\1" * 5000 + bytes(20000) + b"\1" * 5000
