"""Names that programs would read as options, patterns or offsets; and programs and runs that signals end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drypoint.cli.app import cli
from drypoint.errors import ToolError
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import IMAGE_TOOLS, DiskImage, build_disk_image
from drypoint.samples.images import write_oci_layout

PROGRAM = (sys.executable, "-c", "from drypoint.cli import main; main()")
pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs", "fsck.vfat", "mcopy")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    return build_disk_image(tmp_path_factory.mktemp("base") / "base.img")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layout") / "layout"
    write_oci_layout(path, {"demo/weather:1.0": sample_images()["demo/weather:1.0"]})
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


@pytest.mark.parametrize(
    "name", ["o?.img", "w?/o.img", "-n", "a?offset=4096.img", "a@@1.img", "*[a].img", "new\nline.img"]
)
def test_names_that_mean_something_to_programs(
    base: DiskImage, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    # What e2fsck would check instead.
    if "?" in name:
        Path(name.partition("?")[0]).touch()
    options = ["--image", f"oci:{layout}", "--set", "hostname=weather", "--additional-space", "40M", "--shrink-to-fit"]
    done = run("preload", base.path, *options, f"--output={name}")
    assert done.exit_code == 0, done.exception
    again = run("preload", "--in-place", *options, "--", name)
    assert again.exit_code == 0, again.exception
    verified = run("verify", "--", name)
    assert verified.exit_code == 0, verified.output
    assert run("inspect", "--", name).exit_code == 0


def planted(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


@pytest.mark.parametrize("script", ["kill -INT $$", "kill -KILL $$", "exit 32"])
@pytest.mark.parametrize("command", ["preload", "verify"])
def test_a_program_that_a_signal_ended_has_found_nothing(
    base: DiskImage, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, command: str
) -> None:
    if (command, script) == ("preload", "exit 32"):
        script = "kill -TERM $$"
    planted(tmp_path, "e2fsck", script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    out = tmp_path / "out.img"
    options = ["-o", str(out), "--image", f"oci:{layout}"] if command == "preload" else []
    done = run(command, base.path, *options)
    assert isinstance(done.exception, ToolError)
    assert "e2fsck was " in str(done.exception)
    assert "damaged" not in str(done.exception)
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_of_a_terminal_is_the_runs_end(base: DiskImage, tmp_path: Path, number: signal.Signals) -> None:
    planted(tmp_path, "e2fsck", f"touch {tmp_path}/started; exec sleep 30")
    with subprocess.Popen(
        [*PROGRAM, "verify", base.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        start_new_session=True,
    ) as program:
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
            assert program.poll() is None
        os.killpg(program.pid, number)
        said, _ = program.communicate(timeout=20)
    assert program.returncode == 128 + number
    assert "ended by SIG" not in said
    assert said.endswith("nothing unfinished was left behind\n")
