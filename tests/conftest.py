"""What every test lives by: which judges it needs, what happens when one is not there, and that nothing stays behind.

``@pytest.mark.needs("e2fsck", "debugfs")`` names programs, ``needs(root=True)`` wants root; ``engine`` stands for root and
everything that a real engine and registry take. On a machine that lacks one, the test is skipped with the reason, and
the end of the run lists what was not run. A test that runs a program which is not there, and did not name it, is skipped too.
With CI=true or DRYPOINT_REQUIRE_ALL=1 a skipped test fails the run.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from drypoint.samples.tools import missing_tools
from tests.support.mounts import leftovers
from tests.support.unprivileged import NOBODY

ENGINE_PROGRAMS = ("dockerd", "docker", "docker-registry", "unshare", "setpriv", "mount", "umount", "losetup")


# What a user's shell may set and the program reads: a test sets what it needs itself.
_PERSONAL = re.compile(
    r"(BALENA|DOCKER_|DRYPOINT_(?!(REQUIRE_ALL|PURE)$)|SSL_CERT_|XDG_CONFIG).*|.*_proxy|SOURCE_DATE_EPOCH|COLUMNS|LINES|NO_COLOR|"
    r"(FORCE|TTY)_.*|REQUESTS_CA_BUNDLE", re.IGNORECASE
)  # fmt: skip

# A busy machine does not fail a test.
hypothesis.settings.register_profile("drypoint", deadline=None)
hypothesis.settings.load_profile("drypoint")


def pytest_configure(config: pytest.Config) -> None:
    # Debian systems that tests make are kept where the user keeps such things, so this comes before HOME changes.
    os.environ.setdefault("XDG_CACHE_HOME", str(Path("~/.cache").expanduser()))
    for name in [name for name in os.environ if _PERSONAL.fullmatch(name)]:
        del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="drypoint-home-")
    config.add_cleanup(home.cleanup)
    os.environ["HOME"] = home.name
    # Tests run e2fsck and the like by name, and an ordinary user's PATH may lack where Debian has them.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    # A directory that cannot be made: no test depends on what layers an earlier one wrote, or leaves that to the user.
    os.environ["DRYPOINT_CACHE"] = "/dev/null/drypoint/cache"
    config.addinivalue_line(
        "markers", "needs(*programs, root=False): real programs, or root, that the test cannot do without"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    programs: list[str] = []
    root = False
    for mark in item.iter_markers("needs"):
        programs += mark.args
        root = root or bool(mark.kwargs.get("root", False))
    if item.get_closest_marker("engine"):
        programs += ENGINE_PROGRAMS
        root = True
    lacking = [*(["root"] if root and os.geteuid() != 0 else []), *missing_tools(dict.fromkeys(programs))]
    if lacking:
        pytest.skip("needs " + ", ".join(lacking))
    with _skipping_for_programs():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with _skipping_for_programs():
        return (yield)


@contextmanager
def _skipping_for_programs() -> Iterator[None]:
    """Skip where the block runs a program that is not installed."""
    try:
        yield
    except FileNotFoundError as error:
        program = Path(os.fsdecode(error.filename or ""))
        started_none = traceback.extract_tb(error.__traceback__)[-1].name == "_execute_child"
        # subprocess names the working directory in the same way when that is not there.
        if not started_none or program.parent.name not in ("", "bin", "sbin") or shutil.which(program) is not None:
            raise
    else:
        return
    # Not as a consequence of the error: the report of a skip has room for one reason.
    pytest.skip(f"needs {program.name}")


def must_run_all() -> bool:
    return os.environ.get("CI", "").lower() in ("true", "1") or os.environ.get("DRYPOINT_REQUIRE_ALL") == "1"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if must_run_all() and session.exitstatus == pytest.ExitCode.OK and _not_run(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    not_run = _not_run(config)
    if not not_run:
        return
    terminalreporter.section("not run on this machine")
    for reason, count in sorted(not_run.items()):
        terminalreporter.line(f"{count} {'test' if count == 1 else 'tests'}: {reason}")
    if must_run_all():
        terminalreporter.line("this run has to be complete (CI or DRYPOINT_REQUIRE_ALL is set), so it failed", red=True)


def _not_run(config: pytest.Config) -> Counter[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reasons: Counter[str] = Counter()
    if reporter is not None:
        for report in reporter.stats.get("skipped", ()):
            # The text of a skip is (path, line, "Skipped: why").
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            reasons[why.removeprefix("Skipped: ")] += 1
    return reasons


@pytest.fixture
def nobodys_directory() -> Iterator[Path]:
    """A directory that belongs to nobody and that nobody can reach: pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="drypoint-test-") as name:
        shutil.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run when a mount, loop device, engine or registry of ours outlives it."""
    yield
    left = leftovers(tmp_path_factory.getbasetemp())
    assert not left, "left behind by this run:\n" + "\n".join(left)
