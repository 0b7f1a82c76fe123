"""The declarations of libext2fs as the program loads them."""

from __future__ import annotations

import subprocess
import sys

from tests.support.scripts import ROOT, load_script


def test_the_module_is_what_the_declarations_make() -> None:
    script = load_script("libext2fs_declarations")
    assert (ROOT / "src/drypoint/disk/ext4/write/_libext2fs.py").read_text() == script.module(), "run 'make bindings'"


def test_loading_the_library_parses_no_c() -> None:
    code = "import sys; from drypoint.disk.ext4.write.bindings import library; library(); print('cffi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
