"""Layers verified by processes give what threads give, and a process that dies is reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.scripts import ROOT
from tests.support.stores import make_flawed_store

from drypoint.digest import Digest
from drypoint.disk import FileDevice, Window
from drypoint.disk.ext4.read.block_maps import Extent
from drypoint.disk.ext4.read.file_device import Ext4FileDevice
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.errors import FilesystemError, ToolError
from drypoint.samples.tools import missing_tools
from drypoint.stores import KeptLayer, detect
from drypoint.stores.overlay2.kept_layers import KeptLayer as Overlay2Layer
from drypoint.verification import processes, verify_store
from drypoint.verification.layer import LayerResult
from drypoint.verification.processes import LayerProcesses

pytestmark = pytest.mark.skipif(bool(missing_tools(["mkfs.ext4", "debugfs"])), reason="needs e2fsprogs")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flawed_store(tmp_path_factory.mktemp("store") / "image")


def layers_of(image: Path) -> tuple[KeptLayer, ...]:
    with FileDevice(image) as device:
        reader = Ext4Reader(device)
        return detect(b"docker").read(reader).check(reader).layers


def test_processes_find_what_threads_find(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WORTHWHILE_BYTES", 0)
    with FileDevice(image) as device:
        shared = LayerProcesses(str(image), image, 0, device.size, 2)
        expected = verify_store(Ext4Reader(device), b"docker")
        assert verify_store(Ext4Reader(device), b"docker", processes=shared) == expected
    assert {one.code for one in expected.findings} == {"changed-mode"}


def test_a_device_in_one_piece_is_shared_and_no_other(image: Path) -> None:
    with FileDevice(image) as device:
        window = Window(device, 4096, 8192)
        assert LayerProcesses.on(window, 2) == LayerProcesses(window.name, image, 4096, 8192, 2)
        assert LayerProcesses.on(window, 1) is None
        scattered = Ext4FileDevice(device, b"inner", 8192, 4096, [Extent(0, 5, 1), Extent(1, 3, 1)])
        assert LayerProcesses.on(scattered, 2) is None


def test_little_work_is_not_worth_a_process(image: Path) -> None:
    assert not LayerProcesses(str(image), image, 0, 0, 2).worthwhile(layers_of(image))


def test_messages_have_the_name_that_the_caller_knows(tmp_path: Path) -> None:
    path = tmp_path / ".out.img.part"
    path.write_bytes(bytes(1 << 20))
    chain_id = Digest("sha256:" + 64 * "1")
    layer = Overlay2Layer(chain_id, chain_id, None, b"docker/diff", b"docker/tar-split.json.gz", b"docker/size")
    with FileDevice(path, name="/home/me/out.img") as device:
        shared = LayerProcesses.on(device, 2)
    assert shared is not None
    with pytest.raises(FilesystemError, match=r"^/home/me/out\.img "):
        shared._check(layer)


_MASKED = """
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from drypoint.verification import processes

if __name__ == "__main__":
    with ProcessPoolExecutor(1, processes._started()) as pool:
        print(pool.submit(Path.read_text, Path("/proc/self/status")).result())
"""


def test_interrupts_of_a_terminal_are_kept_from_workers(tmp_path: Path) -> None:
    script = tmp_path / "masked.py"
    script.write_text(_MASKED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    blocked = int(next(line for line in done.stdout.splitlines() if line.startswith("SigBlk:")).split()[1], 16)
    assert blocked >> (signal.SIGINT - 1) & 1


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets other processes import what is defined here."""
    monkeypatch.syspath_prepend(str(ROOT))


class _Dying(LayerProcesses, frozen=True):
    """Its processes end as if killed for lack of memory."""

    def _check(self, layer: KeptLayer) -> LayerResult:
        os._exit(1)


@pytest.mark.usefixtures("importable")
def test_a_process_that_dies_is_an_error(image: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ToolError, match="was killed"):
        _Dying(str(image), image, 0, 0, 2).check(layers_of(image)[:1])
    # It is what was asked for that ends it, not some error before.
    assert "Error" not in capfd.readouterr().err


_WAITING = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from drypoint.verification import processes

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    wanted, want = context.Pipe(duplex=False)
    with ProcessPoolExecutor(1, context, processes._begin, (wanted,)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(_WAITING)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    # Less than it would sleep; a busy machine takes its time.
    deadline = time.monotonic() + 50
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.05)


class _Slow(LayerProcesses, frozen=True):
    """Its processes take their time."""

    def _check(self, layer: KeptLayer) -> LayerResult:
        time.sleep(60)
        raise AssertionError("it was not stopped")


class _InterruptError(Exception):
    pass


@pytest.mark.usefixtures("importable")
def test_processes_are_not_waited_for_once_nobody_wants_them(image: Path) -> None:
    def interrupt(*_: object) -> None:
        raise _InterruptError

    layer = layers_of(image)[0]
    before = signal.signal(signal.SIGALRM, interrupt)
    began = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 2)
        with pytest.raises(_InterruptError):
            _Slow(str(image), image, 0, 0, 2).check([layer] * 3)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 20
