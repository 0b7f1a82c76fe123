"""The Pythons at hand: in PATH, where this one has its neighbours (pyenv, uv), and those that uv knows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
_PROBE = "import ensurepip, ssl, sys, venv; print('%d.%d %s' % (*sys.version_info[:2], sys.version_info.releaselevel))"
_SECONDS = 60


def find_python(version: str) -> Path | None:
    """An interpreter of *version* ("3.12") that can make virtual environments and is no pre-release."""
    for path in _candidates(version):
        try:
            done = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, timeout=_SECONDS, check=False)
        except OSError:
            continue
        if done.stdout.split() == [version, "final"]:
            return path
    return None


def _candidates(version: str) -> Iterator[Path]:
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    yield from sorted(Path(sys.base_prefix).parent.glob(f"*/bin/python{version}"), reverse=True)
    if uv := shutil.which("uv"):
        command = [uv, "python", "find", "--no-python-downloads", "--no-project", version]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode == 0:
            yield Path(done.stdout.strip())
