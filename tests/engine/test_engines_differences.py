"""What is known to differ between engines is told from what is wrong."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest

from tests.support.engines import is_known_difference
from tests.support.oracle import Difference, DifferenceKind

CHAIN = "ab" * 32
RECORDS = b'{"type":2,"payload":"AAAA","position":0}\n'
EMPTY = b'{"type":2,"payload":"","position":1}\n'


@pytest.mark.parametrize(
    ("found", "major", "known"),
    [
        (RECORDS + EMPTY, 26, True),
        (RECORDS + EMPTY, 20, False),
        (RECORDS + EMPTY.replace(b"1", b"2"), 26, False),
        (RECORDS + EMPTY + b"\n", 26, False),
        (RECORDS + RECORDS, 26, False),
        (RECORDS.replace(b"AAAA", b"AAAB") + EMPTY, 26, False),
        (RECORDS[:-2], 26, False),
    ],
)
def test_tar_split(tmp_path: Path, found: bytes, major: int, known: bool) -> None:
    for name, content in (("reference", RECORDS), ("ours", found)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tar-split.json.gz").write_bytes(gzip.compress(content))
    difference = Difference(DifferenceKind.TAR_SPLIT, b"tar-split.json.gz", "", "")
    assert is_known_difference(difference, tmp_path / "reference", tmp_path / "ours", major=major) is known


@pytest.mark.needs(root=True)
@pytest.mark.parametrize(
    ("expected", "mode", "device", "major", "known"),
    [
        ("0:50", 0o2775, 0, 28, True),
        ("0:50", 0o2775, 0, 26, False),
        ("0:50", 0o775, 0, 28, False),
        ("0:51", 0o2775, 0, 28, False),
        ("0:50", 0o2775, os.makedev(1, 3), 28, False),
    ],
)
def test_group_of_a_whiteout(tmp_path: Path, expected: str, mode: int, device: int, major: int, known: bool) -> None:
    layer = tmp_path / "image/overlay2/layerdb/sha256" / CHAIN
    layer.mkdir(parents=True)
    (layer / "cache-id").write_text("cafe")
    directory = tmp_path / "overlay2/cafe/diff/many"
    directory.mkdir(parents=True)
    os.chown(directory, 0, 50)
    directory.chmod(mode)
    os.mknod(directory / "gone", stat.S_IFCHR | 0o600, device)
    path = f"overlay2/{{{CHAIN}}}/diff/many/gone".encode()
    difference = Difference(DifferenceKind.OWNER, path, expected, "0:0")
    assert is_known_difference(difference, tmp_path / "unused", tmp_path, major=major) is known


def test_nothing_else_is_known(tmp_path: Path) -> None:
    difference = Difference(DifferenceKind.MODE, b"overlay2", "0710", "0700")
    assert not is_known_difference(difference, tmp_path, tmp_path, major=28)
