"""What the program says of faults that nobody foresaw."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from click.testing import CliRunner

from drypoint.cli.app import cli


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("KeyError('x' * 9000)", 1, "drypoint: this is a fault of drypoint: KeyError: 'xxx"),
        ("MemoryError()", 52, "drypoint: there is not enough memory\n"),
        ("OSError(5, 'Input/output error', 'disk.img')", 1, "drypoint: disk.img: Input/output error\n"),
    ],
)
def test_no_fault_is_a_traceback(raised: str, status: int, said: str) -> None:
    script = f"""
import sys
from drypoint.cli import app, main
def fail(*_, **__):
    raise {raised}
app.cli.main = fail
main()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.startswith(said)
    assert len(ended.stderr) < 800
    assert "Traceback" not in ended.stderr


def test_where_no_thread_starts_the_program_says_so() -> None:
    script = """
import threading
from drypoint.cli import main
def refuse(_):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, "--version"], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 52
    assert ended.stderr.startswith("drypoint: the system starts no more threads")


def test_the_transports_own_log_stays_silent() -> None:
    CliRunner().invoke(cli, ["inspect", "-vv", "/nonexistent"])
    assert not logging.getLogger("urllib3.connection").isEnabledFor(logging.ERROR)
