"""Which lanes are used, and that they keep to the house's rules although no import contract sees them."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import drypoint
from drypoint import lanes

PACKAGE = Path(drypoint.__file__).parent
SOURCES = sorted(path for suffix in lanes.SUFFIXES for path in PACKAGE.rglob(f"*{suffix}"))
LANES = [path for path in SOURCES if path.suffix == ".pyx"]
ROOT = PACKAGE.parent.parent


def state_of(package: Path, **environment: str) -> str:
    code = "from drypoint.lanes import STATE; print(STATE)"
    kept = {name: value for name, value in os.environ.items() if name != "DRYPOINT_PURE"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=package,
        env=kept | environment | {"PYTHONPATH": str(package)},
        check=True,
        capture_output=True,
        text=True,
    )
    return run.stdout.strip()


def copied(tmp_path: Path) -> Path:
    """The least of the package that decides: its lanes, and a stamp as if they were built of them."""
    for path in SOURCES:
        target = tmp_path / path.relative_to(PACKAGE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for folder in lanes.FOLDERS:
        (tmp_path / "drypoint" / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "drypoint" / "__init__.py").touch()
    shutil.copy(PACKAGE / "lanes" / "__init__.py", tmp_path / "drypoint" / "lanes")
    return tmp_path / "drypoint"


def stamp_of(package: Path) -> Path:
    return package / "lanes" / f"built{EXTENSION_SUFFIXES[0]}.sha256"


def test_without_a_stamp_python_does_all(tmp_path: Path) -> None:
    package = copied(tmp_path)
    assert state_of(package.parent) == "pure Python: installed without compiled lanes, which need a C compiler"


def test_lanes_are_used_if_they_are_built_of_what_lies_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = copied(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    build = importlib.import_module("hatch_build")
    assert build.sources() == SOURCES
    build.write_stamp(stamp_of(package))
    assert state_of(package.parent) == "compiled lanes"
    assert state_of(package.parent, DRYPOINT_PURE="1") == "pure Python, by DRYPOINT_PURE"
    with (package / "lanes" / "crc64.h").open("a") as changed:
        changed.write("\n")
    assert state_of(package.parent) == "pure Python: the compiled lanes are older than their sources; run make lanes"


def test_an_installed_package_has_no_sources_to_compare(tmp_path: Path) -> None:
    package = copied(tmp_path)
    for path in SOURCES:
        (tmp_path / path.relative_to(PACKAGE.parent)).unlink()
    stamp_of(package).write_text("any\n")
    assert state_of(package.parent) == "compiled lanes"


def test_all_sources_are_looked_at() -> None:
    assert {path.parent.relative_to(PACKAGE).as_posix() for path in SOURCES} <= set(lanes.FOLDERS)


@pytest.mark.parametrize("lane", LANES, ids=lambda path: path.stem)
def test_a_lane_imports_what_its_neighbours_import_and_has_a_stub(lane: Path) -> None:
    def imports(text: str) -> set[str]:
        return set(re.findall(r"^from (\.[.\w]*) import", text, re.MULTILINE))

    inside = {f".{path.stem}" for path in lane.parent.glob("*.py")}
    allowed = inside.union(*(imports(path.read_text()) for path in lane.parent.glob("*.py")))
    assert imports(lane.read_text()) <= allowed
    assert lane.with_suffix(".pyi").exists()
    assert not re.search(r"^(from|import) drypoint", lane.read_text(), re.MULTILINE)
