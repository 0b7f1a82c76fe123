"""A device whose changes can be taken back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint.disk.device import FileDevice
from drypoint.disk.host.scratch import nameless_file
from drypoint.disk.host.undo import UndoDevice, undoing
from drypoint.errors import OutputError

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
        undo = UndoDevice(device, fd)
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
        undo = UndoDevice(device, fd)
        for _ in range(3):
            for offset in range(0, 1 << 20, 4096):
                undo.write(offset, bytes(4096))
        assert os.fstat(fd).st_size == 1 << 20


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
            UndoDevice(device, full.fileno()).write(0, b"data")
    assert path.read_bytes() == bytes(8192)


def _damage(device: UndoDevice) -> None:
    before = device.read(0, 8192)
    device.write(100, b"x" * 5000)
    assert device.read(0, 8192) != before
    raise ZeroDivisionError
