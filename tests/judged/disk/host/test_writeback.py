from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drypoint.disk.host.writeback import early_writeback

_PROGRAM = """
import sys, time
from pathlib import Path
from drypoint.disk.host.writeback import early_writeback
path = Path(sys.argv[1])
path.write_bytes(b"")
with early_writeback(path), path.open("wb") as file:
    file.write(bytes(range(256)) * 4096)
    file.flush()
    time.sleep(1)
"""


@pytest.mark.needs("strace")
def test_the_kernel_is_asked_while_the_file_is_open(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "large.img"
    subprocess.run(
        ["strace", "-f", "-y", "-e", "trace=sync_file_range", "-o", trace, sys.executable, "-c", _PROGRAM, path],
        check=True,
    )
    calls = re.findall(r"sync_file_range\(\d+<(.*)>, 0, 0, SYNC_FILE_RANGE_WRITE\) = 0", trace.read_text())
    assert calls.count(str(path)) >= 2
    assert path.stat().st_size == 1 << 20


def test_it_ends_with_the_block_whatever_became_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gone.img"
    path.write_bytes(b"x")
    with early_writeback(path):
        assert "drypoint-writeback" in {thread.name for thread in threading.enumerate()}
        path.unlink()
    assert "drypoint-writeback" not in {thread.name for thread in threading.enumerate()}
