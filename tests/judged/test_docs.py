"""The documentation describes what is: generated pages are current, links lead somewhere, the façade is what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.scripts import ROOT, load_script

import drypoint

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def test_the_command_line_reference_is_current() -> None:
    module = load_script("cli_reference")
    assert (ROOT / "docs/reference/cli.md").read_text() == module.reference(), "run 'make docs'"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        if not target.startswith(("https://", "http://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_facade_is_complete_and_resolves() -> None:
    assert sorted(drypoint.__all__) == drypoint.__dir__()
    for name in drypoint.__all__:
        assert getattr(drypoint, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = drypoint.nothing  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys, drypoint; print(sorted(name for name in sys.modules if name.startswith('drypoint.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['drypoint.version']"


def test_a_preload_begins_without_what_a_connection_needs() -> None:
    code = (
        "import sys, drypoint.balena.cloud, drypoint.cli.preload; print('urllib3' in sys.modules, 'ssl' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_the_exit_statuses_in_the_guide_are_those_of_the_errors() -> None:
    guide = (ROOT / "docs/guide.md").read_text()
    told: set[int] = set()
    for cell in re.findall(r"^\| ([\d–, ]+) \|", guide, re.MULTILINE):
        for part in cell.split(","):
            first, _, last = part.strip().partition("–")
            told.update(range(int(first), int(last or first) + 1))
    errors = [getattr(drypoint, name) for name in drypoint.__all__ if name.endswith("Error")]
    assert {error.exit_code for error in errors} - {1} == told
