"""docs/reference/findings.md tells of every kind of finding there is, and the engine's own codes are among them."""

from __future__ import annotations

import re
from typing import get_args

from tests.support.scripts import ROOT, load_script

from drypoint.stores import FINDING_KINDS
from drypoint.stores.overlay2.findings import FindingCode
from drypoint.verification import CODES, KINDS


def test_the_reference_of_findings_is_current() -> None:
    module = load_script("findings_reference")
    page = (ROOT / "docs/reference/findings.md").read_text()
    assert page == module.reference(), "run 'make docs'"
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)) == CODES


def test_every_finding_of_the_engines_store_is_known() -> None:
    assert set(get_args(FindingCode)) <= FINDING_KINDS.keys() <= CODES


def test_every_kind_is_raised_somewhere() -> None:
    tables = ("kinds.py", "findings.py")
    sources = "".join(path.read_text() for path in (ROOT / "src/drypoint").rglob("*.py") if path.name not in tables)
    assert [code for code in KINDS if f'"{code}"' not in sources] == []
