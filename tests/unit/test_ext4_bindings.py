"""The declarations of libext2fs as the program loads them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_module_is_what_the_declarations_make() -> None:
    spec = importlib.util.spec_from_file_location("libext2fs_declarations", ROOT / "scripts/libext2fs_declarations.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "src/drypoint/disk/ext4/_libext2fs.py").read_text() == script.module(), "run 'make bindings'"


def test_loading_the_library_parses_no_c() -> None:
    code = "import sys; from drypoint.disk.ext4.bindings import library; library(); print('cffi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
