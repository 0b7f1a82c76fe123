"""Where tests are, and what they may replace.

``tests/unit`` and ``tests/judged`` mirror the packages: a file begins with the name of the module that it tests, or of its
folder if it tests several modules of it together; ``_`` and the subject may follow. At the top are tests of the repository.
``tests/engine`` goes by scenario, see its docstring.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "drypoint"
MIRRORS = [ROOT / "tests" / "unit", ROOT / "tests" / "judged"]
PRIVATE = re.compile(
    r"""setattr\(\s*(?:[\w.]+,\s*["']_(?!_)|["'][\w.]*\._(?!_))|\bpatch(?:\.object)?\(\s*(?:[\w.]+,\s*)?["'](?:[\w.]*\.)?_(?!_)"""
)


def misplaced(tests: Path, package: Path) -> Iterator[str]:
    """Files that no module's name leads to."""
    for path in sorted(tests.rglob("test_*.py")):
        folder = path.parent.relative_to(tests)
        if folder == Path():
            continue
        modules = {one.stem.split(".")[0].lstrip("_") for one in (package / folder).glob("*") if one.stem != "__init__"}
        subject = path.stem.removeprefix("test_")
        if not any(subject == name or subject.startswith(f"{name}_") for name in modules | {folder.name}):
            yield str(path.relative_to(tests))


def replacing_private_names(tests: Path) -> Iterator[str]:
    for path in sorted(tests.rglob("*.py")):
        if path != Path(__file__):
            for match in PRIVATE.finditer(path.read_text(encoding="utf-8")):
                yield f"{path.relative_to(tests)}: {match[0]}"


@pytest.mark.parametrize("tests", MIRRORS, ids=lambda path: path.name)
def test_a_test_is_found_from_its_modules_name(tests: Path) -> None:
    assert list(misplaced(tests, PACKAGE)) == []


def test_no_test_replaces_a_private_name() -> None:
    assert list(replacing_private_names(ROOT / "tests")) == []


def test_what_is_misplaced_is_found(tmp_path: Path) -> None:
    for name in ("disk/test_device.py", "disk/test_device_errors.py", "disk/test_disk_whole.py", "disk/test_other.py",
                 "gone/test_device.py", "test_docs.py"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(misplaced(tmp_path, PACKAGE)) == ["disk/test_other.py", "gone/test_device.py"]


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ('monkeypatch.setattr(transfer, "_SECONDS", 1)', True),
        ('monkeypatch.setattr("drypoint.http.transfer._SECONDS", 1)', True),
        ('with mock.patch("drypoint.http.transfer._SECONDS", 1):', True),
        ('with patch.object(transfer, "_SECONDS", 1):', True),
        ('monkeypatch.setattr(\n    transfer, "_SECONDS", 1)', True),
        ('monkeypatch.setattr(transfer, "SECONDS", 1)', False),
        ('monkeypatch.setattr(os, "fsync", _fail)', False),
        ('monkeypatch.setattr(device, "__len__", fail)', False),
    ],
)
def test_what_replaces_a_private_name_is_found(tmp_path: Path, line: str, refused: bool) -> None:
    (tmp_path / "test_x.py").write_text(line + "\n")
    assert bool(list(replacing_private_names(tmp_path))) is refused
