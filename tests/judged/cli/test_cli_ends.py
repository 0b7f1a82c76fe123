"""How the program ends when something ends it: exit status, words, and nothing left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from drypoint.samples.applications import sample_content, sample_images
from drypoint.samples.disk_images import IMAGE_TOOLS, build_disk_image
from drypoint.samples.images import (
    BuiltLayer,
    Compression,
    build_image,
    build_layer,
    registry_content,
    write_oci_layout,
)
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.registry import Faults, serve_registry

PROGRAM = (sys.executable, "-c", "from drypoint.cli import main; main()")
pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("faults", "moment"),
    [
        (Faults(refusals=1000, refusal_status=429, retry_after="600"), "looking up"),
        (Faults(stalls=1000, fault_after=2000), "fetching"),
    ],
    ids=["resolving", "fetching"],
)
def test_a_signal_ends_it_soon_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals, faults: Faults, moment: str
) -> None:
    base = build_disk_image(tmp_path / "base.img").path
    (tmp_path / "out").mkdir()
    with serve_registry(registry_content(sample_images()), faults=faults) as registry:
        program = subprocess.Popen(
            [
                *PROGRAM,
                "preload",
                base,
                "-o",
                tmp_path / "out" / "x.img",
                "--image",
                f"{registry.host}/demo/weather:1.0",
            ],
            stderr=subprocess.PIPE,
            text=True,
            # The tests themselves may run in the background, or under nohup, where these are ignored.
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        )
        assert program.stderr is not None
        while not (line := program.stderr.readline()).startswith(moment):
            assert line, "the program ended by itself"
        program.send_signal(number)
        # An impatient second one must not cut the cleaning up off.
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=20)
    # Both may have come before the first was looked at, in either order.
    assert program.returncode in (128 + number, 128 + signal.SIGTERM), said
    assert said.endswith("nothing unfinished was left behind\n")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_signal_at_any_moment_leaves_nothing_unfinished(tmp_path: Path) -> None:
    base = build_disk_image(tmp_path / "base.img").path
    target = tmp_path / "out" / "x.img"
    target.parent.mkdir()
    with serve_registry(registry_content(sample_images())) as registry:
        arguments = ("preload", base, "-o", target, "--image", f"{registry.host}/demo/weather:1.0")
        for step in range(16):
            program = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
            assert program.stderr is not None
            said = program.stderr.readline()
            time.sleep(step * 0.03)
            program.send_signal(signal.SIGTERM)
            said += program.communicate(timeout=20)[1]
            # Where it comes too late, the disk image is there.
            assert program.returncode in (0, 128 + signal.SIGTERM), said
            assert program.returncode == 0 or said.endswith("nothing unfinished was left behind\n")
            assert program.returncode != 0 or target.exists()
            target.unlink(missing_ok=True)
            assert list(target.parent.iterdir()) == []


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor reads by threads")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("processes", [0, 5], ids=["starting", "reading"])
def test_a_signal_while_it_is_read_back_leaves_neither_file_nor_process(
    tmp_path: Path, number: signal.Signals, processes: int
) -> None:
    base = build_disk_image(tmp_path / "base.img").path
    (tmp_path / "out").mkdir()
    write_oci_layout(tmp_path / "layout", {"demo/many:1": build_image([layer_of_many_files(str(i)) for i in range(2)])})
    with subprocess.Popen(
        [*PROGRAM, "preload", base, "-o", tmp_path / "out" / "x.img", "--image", f"oci:{tmp_path / 'layout'}"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DRYPOINT_TEST": str(tmp_path)},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        start_new_session=True,
    ) as program:
        assert program.stderr is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("verifying")):
            lines.append(program.stderr.readline())
            assert lines[-1], lines
        # The program, two that read, what they were forked from, and what watches over shared resources.
        while len(processes_with(f"DRYPOINT_TEST={tmp_path}")) < processes:
            assert program.poll() is None
        # Ctrl-C on a terminal reaches all of them.
        if number == signal.SIGINT:
            os.killpg(program.pid, number)
        else:
            program.send_signal(number)
        _, said = program.communicate(timeout=20)
    assert program.returncode == 128 + number, said
    # Not a word of the processes' own.
    assert len(said.splitlines()) == 1, said
    word = said.rstrip("\n")
    assert word.endswith("nothing unfinished was left behind")
    assert list((tmp_path / "out").iterdir()) == []
    deadline = time.monotonic() + 5
    while left := processes_with(f"DRYPOINT_TEST={tmp_path}"):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def layer_of_many_files(seed: str) -> BuiltLayer:
    """Enough work that two of them are shared among processes, and read for a second or more."""
    builder = LayerBuilder()
    for directory in range(60):
        builder.directory(f"{seed}-{directory}")
        content = sample_content(f"{seed} {directory}", 8 << 10)
        for number in range(150):
            builder.file(f"{seed}-{directory}/{number}", content)
    return build_layer(builder.finish(), Compression.NONE)


def processes_with(variable: str) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        # Those of other users cannot be looked at, and some end meanwhile.
        with suppress(OSError):
            if process.name.isdigit() and variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom drypoint.cli.app import run\n"
    code += "try: run(['--version'])\nfinally: assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_full_standard_output_is_told_in_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run([*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "drypoint: No space left on device\n")


def test_a_file_that_may_not_grow_so_large_is_told(tmp_path: Path) -> None:
    base = build_disk_image(tmp_path / "base.img").path
    (tmp_path / "out").mkdir()
    write_oci_layout(tmp_path / "layout", {"demo/weather:1.0": sample_images()["demo/weather:1.0"]})
    ended = subprocess.run(
        [*PROGRAM, "preload", "-q", base, "-o", tmp_path / "out" / "x.img", "--image", f"oci:{tmp_path / 'layout'}"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 20, 100 << 20)),
    )
    assert (ended.returncode, ended.stderr) == (
        50,
        f"drypoint: cannot write {tmp_path}/out/x.img, a copy of {base}: File too large\n",
    )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(tmp_path: Path, closed: str) -> None:
    base = build_disk_image(tmp_path / "base.img").path
    write_oci_layout(tmp_path / "layout", {"demo/weather:1.0": sample_images()["demo/weather:1.0"]})
    arguments = (*PROGRAM, "preload", base, "-o", tmp_path / "x.img", "--image", f"oci:{tmp_path / 'layout'}")
    ended = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    verified = subprocess.run([*PROGRAM, "verify", "-q", tmp_path / "x.img"], check=False)
    assert verified.returncode == 0


def test_standard_output_is_no_place_for_a_disk_image(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "preload", "base.img", "-o", "-", "--image", "a"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot be streamed" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_demo_where_something_else_is_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    for name in ("file", "full"):
        done = subprocess.run([*PROGRAM, "demo", tmp_path / name], capture_output=True, text=True, check=False)
        assert done.returncode == 50
        assert name in done.stderr
    assert (tmp_path / "file").read_text() == (tmp_path / "full/mine").read_text() == "mine"
