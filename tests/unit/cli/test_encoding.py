"""Whatever the encoding of the output, a result is printed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import sys
from drypoint.cli.encoding import print_in_any_encoding
print_in_any_encoding()
print(sys.argv[1])
print(sys.argv[1], file=sys.stderr)
"""
_TEXT = "é 3–5 2×4 sha256:b5b4… Δ"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", _TEXT),
        ("latin-1", r"é 3-5 2×4 sha256:b5b4... \u0394"),
        ("ascii", r"\xe9 3-5 2x4 sha256:b5b4... \u0394"),
        ("cp1252", r"é 3–5 2×4 sha256:b5b4… \u0394"),
    ],
)
def test_what_an_encoding_lacks_is_shown_plainly(encoding: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, _TEXT],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert done.stdout == done.stderr == f"{expected}\n".encode(encoding)


def test_json_is_utf_8_in_any_encoding() -> None:
    """RFC 8259, section 8.1."""
    script = "from drypoint.cli import render; render.json({'name': 'Δ…'})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == '{\n  "name": "Δ…"\n}\n'.encode()
