"""``python -m drypoint`` is the program."""

from __future__ import annotations

import subprocess
import sys


def test_the_package_runs_as_the_program() -> None:
    """With its name and its exit statuses."""
    done = subprocess.run([sys.executable, "-m", "drypoint", "plan"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: drypoint plan ")
