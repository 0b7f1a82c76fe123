"""The check of the lanes' C under sanitizers finds a fault that is planted; without one it passes (make leaves)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
C_OF_LANES = ("lanes", "layers")


@pytest.mark.needs("cc")
@pytest.mark.parametrize(
    ("header", "right", "wrong"),
    [
        ("lanes/crc64.h", "count >= 16; bytes += 16", "count >= 15; bytes += 16"),
        ("layers/tar_header.h", "strnlen((const char *)block, 100)", "strlen((const char *)block)"),
        ("lanes/text.h", "b & 15 :", "0 :"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, header: str, right: str, wrong: str) -> None:
    for place in ("scripts/check-leaves", "tests/native/leaves.c"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, tmp_path / place)
    for folder in C_OF_LANES:
        (tmp_path / "src/drypoint" / folder).mkdir(parents=True)
        for path in (ROOT / "src/drypoint" / folder).glob("*.h"):
            shutil.copy(path, tmp_path / "src/drypoint" / folder)
    spoiled = tmp_path / "src/drypoint" / header
    text = spoiled.read_text()
    assert right in text
    spoiled.write_text(text.replace(right, wrong))
    run = subprocess.run([tmp_path / "scripts/check-leaves"], capture_output=True, text=True, check=False)
    assert run.returncode
    assert "ERROR: AddressSanitizer" in run.stderr or "runtime error" in run.stderr or "Assertion" in run.stderr
