"""What tests/conftest.py does about judges that a machine lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

@pytest.mark.needs("no-such-program", "sh")
def test_lacking(): pass

@pytest.mark.needs("sh")
def test_present(): pass
"""


@pytest.mark.parametrize("variable", ["CI=true", "DRYPOINT_REQUIRE_ALL=1", "OTHER=1"])
def test_what_is_not_run_is_named_and_fails_where_all_must_run(variable: str, tmp_path: Path) -> None:
    done = run_suite(tmp_path, SUITE, variable)
    assert "1 passed, 1 skipped" in done.stdout
    assert "not run on this machine" in done.stdout
    assert "1 test: needs no-such-program\n" in done.stdout
    assert done.returncode == (0 if variable == "OTHER=1" else 1)


def test_a_complete_run_has_no_such_section(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "def test_present(): pass\n", "CI=true")
    assert done.returncode == 0
    assert "not run on this machine" not in done.stdout


@pytest.mark.parametrize("program", ["no-such-program", "/usr/sbin/no-such-program"])
def test_a_program_that_no_mark_names_is_named_when_it_is_missing(program: str, tmp_path: Path) -> None:
    """In a test or a fixture; any other missing file, such as the working directory, is a failure."""
    suite = f"""
        import subprocess, pytest
        @pytest.fixture
        def made(): subprocess.run(["{program}"])
        def test_made(made): pass
        def test_program(): subprocess.run(["{program}"])
        def test_directory(tmp_path): subprocess.run(["true"], cwd=tmp_path / "missing")
        def test_file(): open("{program}")
    """.replace("\n        ", "\n")
    done = run_suite(tmp_path, suite, "OTHER=1")
    assert "2 failed, 2 skipped" in done.stdout
    assert "2 tests: needs no-such-program\n" in done.stdout


@pytest.mark.needs("losetup", "mkfs.ext4", root=True)
def test_a_run_that_leaves_something_behind_fails(tmp_path: Path) -> None:
    suite = """
        import os, tempfile
        def test_careless(): tempfile.mkdtemp(prefix=f"drypoint-mount-{os.getpid()}-", dir=tempfile.gettempdir())
    """.replace("\n        ", "\n")
    done = run_suite(tmp_path, suite, f"TMPDIR={tmp_path}")
    assert done.returncode == 1
    assert "left behind by this run" in done.stdout


def run_suite(directory: Path, suite: str, variable: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", directory)
    (directory / "test_suite.py").write_text(suite)
    name, _, value = variable.partition("=")
    environment = {key: kept for key, kept in os.environ.items() if key not in ("CI", "DRYPOINT_REQUIRE_ALL")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", directory, directory],
        env={**environment, name: value},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
