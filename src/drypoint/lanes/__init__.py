"""Whether compiled lanes are used.

A lane is a Cython module for the plain cases of a Python module, its twin, in the same folder. The twin does all the rest, and
everything where there are no lanes; it reads :data:`ENABLED` when it is imported. hatch_build.py builds lanes and writes a
stamp of their sources; in a checkout, lanes that were built from other sources are not used.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

FOLDERS = ("lanes", "layers", "sinks", "disk/ext4/read")
"""The folders of the package that hold lanes and their sources."""
SUFFIXES = (".pyx", ".pxd", ".h")
_PACKAGE = Path(__file__).parent.parent
_STAMP = Path(__file__).with_name(f"built{EXTENSION_SUFFIXES[0]}.sha256")


def _state() -> str:
    if os.environ.get("DRYPOINT_PURE"):
        return "pure Python, by DRYPOINT_PURE"
    try:
        stamp = _STAMP.read_text("ascii").strip()
    except OSError:
        return "pure Python: installed without compiled lanes, which need a C compiler"
    found = sorted(f"{folder}/{name}" for folder in FOLDERS for name in os.listdir(_PACKAGE / folder))  # noqa: PTH208 - fast
    sources = [name for name in found if name.endswith(SUFFIXES)]
    if sources:
        # Imported here: an installed package has no sources.
        import hashlib

        digest = hashlib.sha256()
        for name in sources:
            digest.update((_PACKAGE / name).read_bytes())
        if digest.hexdigest() != stamp:
            return "pure Python: the compiled lanes are older than their sources; run make lanes"
    return "compiled lanes"


STATE = _state()
"""The state of the lanes, as ``--version`` prints it."""
ENABLED = STATE == "compiled lanes"
