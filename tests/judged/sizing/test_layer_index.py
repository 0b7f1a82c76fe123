"""The index of layers: kept, bounded, shared by processes, and never in the way."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.unprivileged import as_nobody

from drypoint.digest import Digest, digest_of
from drypoint.sizing import layer_index as seen
from drypoint.sizing.layer_index import FILE_NAME, IndexedLayer, LayerIndex

KIND = "ext4-4096-256"
LAYER = IndexedLayer(10_240, 5, 40, 3)
FIRST = digest_of(b"0")


def layer_id(number: int) -> Digest:
    return digest_of(b"%d" % number)


def noted(directory: Path, diff_id: Digest = FIRST, kind: str = KIND) -> IndexedLayer | None:
    """What a new process would find."""
    return LayerIndex(directory).find(diff_id, kind)


def test_what_is_noted_is_found_again_for_the_same_kind_of_file_system(tmp_path: Path) -> None:
    index = LayerIndex(tmp_path / "not" / "yet")
    assert index.find(layer_id(0), KIND) is None
    index.note({layer_id(0): LAYER}, KIND)
    assert index.find(layer_id(0), KIND) == LAYER
    assert noted(tmp_path / "not" / "yet") == LAYER
    assert noted(tmp_path / "not" / "yet", kind="ext4-1024-128") is None
    assert noted(tmp_path / "not" / "yet", layer_id(1)) is None
    assert (tmp_path / "not").stat().st_mode & 0o777 == 0o700


def test_those_noted_first_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MAX_LAYERS", 4)
    index = LayerIndex(tmp_path)
    for number in range(6):
        index.note({layer_id(number): LAYER}, KIND)
    assert [number for number in range(6) if noted(tmp_path, layer_id(number))] == [2, 3, 4, 5]


def test_a_file_of_the_most_layers_is_still_read(tmp_path: Path) -> None:
    largest = IndexedLayer(1 << 48, 1 << 48, 1 << 48, 1 << 48)
    kind = "ext4-65536-4096-20-8440-400"
    LayerIndex(tmp_path).note({layer_id(number): largest for number in range(seen.MAX_LAYERS + 5)}, kind)
    assert noted(tmp_path, layer_id(seen.MAX_LAYERS + 4), kind) == largest
    assert noted(tmp_path, layer_id(4), kind) is None


@pytest.mark.parametrize(
    ("new", "stays"),
    [
        (IndexedLayer(10_240, 5, 38, 3), True),
        (IndexedLayer(10_240, 6, 40, 3), False),
        (IndexedLayer(10_240, 5, 41, 3), False),
        (IndexedLayer(10_240, 5, 40, 4), False),
        (IndexedLayer(10_752, 5, 40, 3), False),
    ],
)
def test_what_is_about_right_stays_so_that_the_next_run_is_the_same(
    tmp_path: Path, new: IndexedLayer, stays: bool
) -> None:
    index = LayerIndex(tmp_path)
    index.note({layer_id(0): LAYER}, KIND)
    index.note({layer_id(0): new}, KIND)
    assert noted(tmp_path) == (LAYER if stays else new)


def test_far_too_much_is_corrected(tmp_path: Path) -> None:
    index = LayerIndex(tmp_path)
    index.note({layer_id(0): IndexedLayer(10_240, 5_000, 9_000, 3)}, KIND)
    index.note({layer_id(0): LAYER}, KIND)
    assert noted(tmp_path) == LAYER


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"[" * 100_000,
        b'{"format":2,"layers":[]}',
        b'{"format":1,"layers":[["a","b",1,2,3]]}',
        b'{"format":1,"layers":[["a","b",1,2,3,1e400]]}',
        b'{"format":1,"layers":[["a","b",1,2,3,' + b"9" * 5000 + b"]]}",
        b'{"format":1,"layers":[["\xff","b",1,2,3,4]]}',
        b'{"format":1,"layers":[]}' + b" " * (9 << 20),
    ],
    ids=range(9),
)
def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / FILE_NAME).write_bytes(content)
    assert noted(tmp_path) is None
    assert caplog.records
    LayerIndex(tmp_path).note({layer_id(0): LAYER}, KIND)
    assert noted(tmp_path) == LAYER


def test_numbers_that_cannot_be_are_passed_over(tmp_path: Path) -> None:
    good = f'["{layer_id(0)}","{KIND}",10240,5,40,3]'
    for bad in ("-1,5,40,3", "10240,41,40,3", f"10240,5,{1 << 60},3"):
        row = f'["{layer_id(1)}","{KIND}",{bad}]'
        (tmp_path / FILE_NAME).write_text(f'{{"format":1,"layers":[{good},{row}]}}')
        assert noted(tmp_path) == LAYER
        assert noted(tmp_path, layer_id(1)) is None


@pytest.mark.parametrize("kind", ["pipe", "directory", "dangling link", "no directory", "file for a directory"])
def test_it_is_done_without_where_it_cannot_be_kept(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    directory = tmp_path
    if kind == "pipe":
        os.mkfifo(directory / FILE_NAME)
    elif kind == "directory":
        (directory / FILE_NAME).mkdir()
    elif kind == "dangling link":
        (directory / FILE_NAME).symlink_to("/nonexistent/x")
    elif kind == "no directory":
        directory = tmp_path / "a" / "b" / "c"
    else:
        (tmp_path / "file").touch()
        directory = tmp_path / "file"
    assert noted(directory) is None
    LayerIndex(directory).note({layer_id(0): LAYER}, KIND)
    if kind in ("directory", "no directory", "file for a directory"):
        assert noted(directory) is None
        assert caplog.records
    else:
        assert noted(directory) == LAYER, "what is no file gives way to one"


@pytest.mark.needs("setpriv", root=True)
def test_a_directory_that_cannot_be_written_to_is_only_read(nobodys_directory: Path) -> None:
    LayerIndex(nobodys_directory).note({layer_id(0): LAYER}, KIND)
    assert not list(nobodys_directory.iterdir()), "root makes nothing that its owner could not write to"
    os.chown(nobodys_directory, 0, 0)
    nobodys_directory.chmod(0o755)
    LayerIndex(nobodys_directory).note({layer_id(0): LAYER}, KIND)
    code = (
        "import sys; from pathlib import Path; from drypoint.sizing.layer_index import *;"
        "index = LayerIndex(Path(sys.argv[1]));"
        "index.note({'sha256:new': IndexedLayer(1, 1, 1, 1)}, 'k'); print(index.find(sys.argv[2], sys.argv[3]))"
    )
    command = [*as_nobody(), sys.executable, "-c", code]
    done = subprocess.run([*command, nobodys_directory, layer_id(0), KIND], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(LAYER)
    assert noted(nobodys_directory, Digest("sha256:new"), "k") is None


def test_one_that_another_process_keeps_locked_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(seen, "LOCK_SECONDS", 0.1)
    with open(tmp_path / f".{FILE_NAME}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        LayerIndex(tmp_path).note({layer_id(0): LAYER}, KIND)
    assert noted(tmp_path) is None
    assert "locked" in caplog.text


def test_processes_that_note_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from drypoint.sizing.layer_index import *;"
        "index = LayerIndex(Path(sys.argv[1]))\n"
        "for number in range(10): index.note({f'sha256:{sys.argv[2]}-{number}': IndexedLayer(1, 1, 1, 1)}, 'k')"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path, str(number)]) for number in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    index = LayerIndex(tmp_path)
    missing = [
        (process, number)
        for process in range(4)
        for number in range(10)
        if index.find(Digest(f"sha256:{process}-{number}"), "k") is None
    ]
    assert not missing
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, f".{FILE_NAME}.lock"}


@pytest.mark.parametrize("name", [FILE_NAME, f".{FILE_NAME}.lock", f".{FILE_NAME}.part"])
@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_file_of_its_own_is_neither_followed_nor_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    directory = tmp_path / "cache"
    directory.mkdir()
    if kind == "link":
        (directory / name).symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(directory / name)
    else:
        (directory / name).mkdir()
    LayerIndex(directory).note({FIRST: LAYER}, KIND)
    assert noted(directory) in (None, LAYER)
    assert victim.read_text() == "precious"


def test_its_files_cannot_be_written_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        LayerIndex(tmp_path).note({FIRST: LAYER}, KIND)
    finally:
        os.umask(old)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {FILE_NAME: 0o644, f".{FILE_NAME}.lock": 0o600}
    # What a killed run left is in nobody's way.
    (tmp_path / f".{FILE_NAME}.part").write_bytes(b"half")
    LayerIndex(tmp_path).note({layer_id(7): LAYER}, KIND)
    assert noted(tmp_path, layer_id(7)) == LAYER
