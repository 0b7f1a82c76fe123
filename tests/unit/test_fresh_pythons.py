"""Which interpreters count as at hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.fresh.pythons import find_python


def stand_in(directory: Path, version: str, says: str) -> Path:
    path = directory / f"python{version}"
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


def test_this_python_is_at_hand() -> None:
    assert find_python(f"{sys.version_info.major}.{sys.version_info.minor}") is not None


@pytest.mark.parametrize(
    "says",
    ["echo 3.99 beta", "echo 3.98 final", "echo 'python3.99: command not found' >&2; exit 127"],
    ids=["pre-release", "another", "none behind it"],
)
def test_what_is_no_such_python_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    stand_in(tmp_path, "3.99", says)
    assert find_python("3.99") is None


def test_the_first_in_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = stand_in(tmp_path, "3.99", "echo 3.99 final")
    assert find_python("3.99") == path
