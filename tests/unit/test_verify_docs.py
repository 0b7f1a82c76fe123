"""docs/reference/findings.md tells of every kind of finding there is, and the engine's own codes are among them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import get_args

from drypoint.engine.reading import FindingCode
from drypoint.verification import CODES, KINDS

ROOT = Path(__file__).parents[2]


def test_the_reference_of_findings_is_current() -> None:
    spec = importlib.util.spec_from_file_location("findings_reference", ROOT / "scripts/findings_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs/reference/findings.md").read_text()
    assert page == module.reference(), "run 'make docs'"
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)) == CODES


def test_every_finding_of_the_engines_store_is_known() -> None:
    assert set(get_args(FindingCode)) <= CODES


def test_every_kind_is_raised_somewhere() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "src/drypoint").rglob("*.py") if path.name != "kinds.py")
    assert [code for code in KINDS if f'"{code}"' not in sources] == []
