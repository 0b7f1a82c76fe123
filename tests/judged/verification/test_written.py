"""What preload and inject wrote is read back by processes too, wherever it lies while they work on it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.flasher_images import build_flasher_image
from tests.support.stores import make_flawed_store

from drypoint import ImageRequest, OciLayoutSource, Target, inject, pack, parse_reference, preload
from drypoint.disk import FileDevice
from drypoint.errors import VerificationError
from drypoint.jobs.request import PreloadRequest
from drypoint.oci import parse_platform
from drypoint.progress import SILENT
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, DiskImage, Sizes, build_disk_image
from drypoint.samples.images import write_oci_layout
from drypoint.stores import KeptLayer
from drypoint.verification import LayerProcesses, filesystem, processes
from drypoint.verification.written import WrittenStore, verify_written
from drypoint.volumes.target import Container
from drypoint.volumes.volume import Volume

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs")

PLATFORM = parse_platform("linux/amd64")
SIZES = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=48 * MIB)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    return build_disk_image(tmp_path_factory.mktemp("base") / "base.img", sizes=SIZES)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ImageRequest]]:
    directory = tmp_path_factory.mktemp("layout")
    write_oci_layout(directory, sample_images())
    source = OciLayoutSource(directory)
    yield [ImageRequest(parse_reference(name), source) for name in sample_images()]
    source.close()


@pytest.fixture
def only_processes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets this process read no layer itself; how many layers were left to others, call by call."""
    shared: list[int] = []
    check = LayerProcesses.check

    def counted(self: LayerProcesses, layers: list[KeptLayer]) -> object:
        results = check(self, layers)
        assert all(result.tar_bytes for result in results)
        shared.append(len(results))
        return results

    monkeypatch.setattr(processes, "WORTHWHILE_BYTES", 0)
    monkeypatch.setattr("drypoint.verification.store.check_layer", None)
    monkeypatch.setattr(LayerProcesses, "check", counted)
    return shared


@pytest.mark.parametrize("name", ["out.img", "out.img.gz"])
@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
def test_a_preload(
    tmp_path: Path,
    base: DiskImage,
    requests: list[ImageRequest],
    only_processes: list[int],
    name: str,
    compressed: bool,
) -> None:
    source = base.path
    if compressed:
        source = tmp_path / "base.img.gz"
        with source.open("wb") as file:
            subprocess.run(["gzip", "-1c", base.path], stdout=file, check=True)
    result = preload(source, tmp_path / name, PreloadRequest(requests, PLATFORM), processes=2)
    assert only_processes == [len(result.layers)] == [6]


def test_a_flasher(tmp_path: Path, base: DiskImage, requests: list[ImageRequest], only_processes: list[int]) -> None:
    flasher = build_flasher_image(tmp_path / "flasher.img", base.path, pieces=40)
    target = Target(container=Container("flash-rootA", flasher.path.encode()))
    preload(flasher.disk.path, tmp_path / "out.img", PreloadRequest(requests, PLATFORM, target=target), processes=2)
    assert only_processes == [6]


@pytest.mark.parametrize("streamed", [False, True], ids=["file", "stream"])
def test_an_injection(
    tmp_path: Path, base: DiskImage, requests: list[ImageRequest], only_processes: list[int], streamed: bool
) -> None:
    archive = tmp_path / "app.etch"
    with archive.open("wb") as file:
        pack(base.path, file.write, PreloadRequest(requests, PLATFORM))
    if streamed:
        with (tmp_path / "out.img").open("wb") as out:
            inject(archive, out, processes=2)
    else:
        inject(archive, tmp_path / "out.img", processes=2)
    assert only_processes == [6]


@pytest.mark.parametrize("count", [1, 2])
def test_damage_is_told_by_processes_as_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(processes, "WORTHWHILE_BYTES", 0)
    with FileDevice(make_flawed_store(tmp_path / "image")) as device:
        shared = LayerProcesses.on(device, count)
        with pytest.raises(VerificationError, match=r"in 1 places: .*/diff: its mode is 0700, not 0755"):
            verify_written(Volume(device), WrittenStore(b"docker"), processes=shared, progress=SILENT)


def test_a_damaged_file_system_is_told_before_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = tmp_path / "e2fsck"
    checker.write_text("#!/bin/sh\nsleep 0.5\necho something is wrong\nexit 4\n")
    checker.chmod(0o755)
    monkeypatch.setattr(filesystem, "tool_path", lambda _: checker)
    with FileDevice(make_flawed_store(tmp_path / "image")) as device:
        with pytest.raises(VerificationError, match=r"in 2 places: .*something is wrong; .*/diff: its mode"):
            verify_written(Volume(device), WrittenStore(b"docker"), progress=SILENT)


def test_checkers_end_when_the_reading_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = tmp_path / "e2fsck"
    checker.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 60\n")
    checker.chmod(0o755)
    monkeypatch.setattr(filesystem, "tool_path", lambda _: checker)
    pid = tmp_path / "pid"

    def fails(*_: object, **__: object) -> None:
        while not pid.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("drypoint.verification.written.verify_store", fails)
    began = time.monotonic()
    with FileDevice(make_flawed_store(tmp_path / "image")) as device, pytest.raises(KeyboardInterrupt):
        verify_written(Volume(device), WrittenStore(b"docker"), progress=SILENT)
    assert time.monotonic() - began < 50
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
