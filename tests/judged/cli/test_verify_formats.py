"""Compressed disk images are verified as raw ones are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.stores import make_flawed_store

from drypoint.cli.app import cli
from drypoint.disk.formats import Encoding, ImageFormat, format_of_name, write_image
from drypoint.errors import DiskImageError
from drypoint.verification import processes, verify

pytestmark = pytest.mark.needs("mkfs.ext4", "debugfs", "e2fsck")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flawed_store(tmp_path_factory.mktemp("store") / "disk.img")


def compressed(image: Path, target: Path) -> Path:
    with image.open("rb") as source, target.open("wb") as file:
        kind = format_of_name(target)
        level = 0 if kind is ImageFormat.XZ else 1
        write_image(source.fileno(), image.stat().st_size, file.fileno(), Encoding(kind, "disk.img", level=level))
    return target


@pytest.mark.parametrize("suffix", [".img.gz", ".img.zip"])
def test_processes_read_the_unpacked_image(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(processes, "WORTHWHILE_BYTES", 0)
    expected = verify(image, partition=0, data_root=b"docker")
    path = compressed(image, tmp_path / f"x{suffix}")
    found = verify(path, partition=0, data_root=b"docker", processes=2)
    assert repr(found).replace(str(path), str(image)) == repr(expected)
    assert {one.code for one in found.findings} == {"changed-mode"}


def test_the_command_takes_a_compressed_image(image: Path, tmp_path: Path) -> None:
    told = []
    for path in (image, compressed(image, tmp_path / "x.img.xz")):
        arguments = ["verify", str(path), "--data-partition", "0", "--data-root", "/docker", "--json"]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code in (0, 60), done.output
        told.append(json.dumps(json.loads(done.stdout)).replace(str(path), "IMAGE"))
    assert told[0] == told[1]
    assert "changed-mode" in told[0]


def test_a_download_that_was_cut_short_is_told(image: Path, tmp_path: Path) -> None:
    path = compressed(image, tmp_path / "x.img.gz")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DiskImageError, match=r"x\.img\.gz: the gzip stream is truncated"):
        verify(path, partition=0, data_root=b"docker")
