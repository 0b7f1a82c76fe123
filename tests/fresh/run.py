"""Run the trials, two at a time: ``python -m tests.fresh.run [NAME...]``; the names are those that it prints.

A trial leaves what its commands printed in build/fresh/NAME.log. What cannot be had here, a root's rights or a Python, is named
and is no failure. Exit status: 0 all that could be tried passed, 1 something failed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from drypoint.errors import DrypointError
from drypoint.samples.tools import run_tool

from .pythons import SUPPORTED, find_python
from .system import FreshSystem, fresh_system

_CHECKOUT = Path(__file__).resolve().parents[2]
_LOGS = _CHECKOUT / "build/fresh"
_SECONDS = 1800.0
_SHOWN_LINES = 60
_INSTALL = re.compile(rb"^    sudo (apt-get .*)$", re.MULTILINE)
_NOT_RUN = re.compile(r"^\d+ tests?: .*$", re.MULTILINE)
_DEMO_PACKAGES = ("e2fsprogs", "mtools", "python3-venv", "dosfstools", "fdisk")
_COMPILER = ("gcc", "libc6-dev", "python3-dev")


class TrialError(Exception):
    """What a stranger would have met."""


class SkippedError(Exception):
    """Why a trial cannot take place on this machine."""


@dataclass(frozen=True, slots=True)
class Trial:
    """*run* writes to a log and raises TrialError or SkippedError; tests may be skipped for what holds one of *reasons*."""

    name: str
    what: str
    run: Callable[[IO[bytes]], None]
    reasons: tuple[str, ...]


def as_user(suite: str, log: IO[bytes]) -> None:
    """The first command names all packages at once; with these it passes, without a compiler and the sbin directories."""
    _need_root()
    with fresh_system(suite, _CHECKOUT, log, root=False) as system:
        begin = log.tell()
        if system.run("make demo", root=False) == 0:
            raise TrialError("make demo named no missing package")
        named = _INSTALL.findall(Path(log.name).read_bytes()[begin:])
        if len(named) != 1:
            raise TrialError(f"make demo named a command to install packages {len(named)} times, not once")
        update, _, install = named[0].decode().rpartition("&& sudo ")
        if system.run(f"{update.strip() or ':'} && DEBIAN_FRONTEND=noninteractive {install} -qq -y", root=True) != 0:
            raise TrialError("the command that make demo named fails")
        _run_all(system, ("make demo", "make unit", "scripts/try-wheel"), root=False)


def as_user_with_packages(suite: str, log: IO[bytes]) -> None:
    """With the packages there from the beginning: apt refuses a suite whose lists are older than they say they may be."""
    _need_root()
    with fresh_system(suite, _CHECKOUT, log, *_DEMO_PACKAGES, root=False) as system:
        _run_all(system, ("make demo", "make unit", "scripts/try-wheel"), root=False)


def as_root(suite: str, log: IO[bytes]) -> None:
    """Each command installs what it needs; lanes are compiled."""
    _need_root()
    with fresh_system(suite, _CHECKOUT, log, *_COMPILER, root=True) as system:
        _run_all(system, ("make demo", "make unit LANES=require", "scripts/try-wheel"), root=True)


def _run_all(system: FreshSystem, commands: Sequence[str], *, root: bool) -> None:
    for command in commands:
        if system.run(command, root=root) != 0:
            raise TrialError(f"{command} failed")


def on_this_machine(python: str, log: IO[bytes]) -> None:
    """With the interpreter *python*."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    with tempfile.TemporaryDirectory(prefix="drypoint-fresh-") as scratch:
        run_tool("git", "clone", "--quiet", _CHECKOUT, f"{scratch}/drypoint")
        for command in (["make", "demo", "unit", f"PYTHON={python}"], ["scripts/try-wheel"]):
            done = subprocess.run(
                command,
                cwd=f"{scratch}/drypoint",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=_SECONDS,
                check=False,
            )
            if done.returncode != 0:
                raise TrialError(f"{' '.join(command)} failed")


def all_trials() -> list[Trial]:
    """In Debian 12 and 13, and for each other Python that drypoint supports: from this machine, else from Debian testing."""
    without_root, without_compiler, without_engine = "root", "no compiled lanes", "dockerd"
    trials = [
        Trial(
            "debian-12-user",
            "Debian 12, ordinary user, Python 3.11, no compiler",
            lambda log: as_user("bookworm", log),
            (without_root, without_compiler),
        ),
        Trial(
            "debian-13-root",
            "Debian 13, root, Python 3.13, with a compiler",
            lambda log: as_root("trixie", log),
            # Debian 13 has fincore in a package that a new system lacks.
            (without_engine, "fincore"),
        ),
    ]
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in SUPPORTED:
        # In Debian systems, or by "make unit" itself.
        if version in ("3.11", "3.13") and (os.geteuid() == 0 or version == running):
            continue
        trials.append(_trial_of(version, without_root, without_engine))
    return trials


def _trial_of(version: str, *reasons: str) -> Trial:
    found = find_python(version)
    name = f"python-{version}"
    if found is not None:
        return Trial(
            name, f"this machine, {found}", lambda log: on_this_machine(str(found), log), (*reasons, "no compiled")
        )
    if version == "3.14":
        return Trial(
            name,
            "Debian testing, ordinary user, no compiler",
            lambda log: as_user_with_packages("testing", log),
            (*reasons, "no compiled lanes", "fincore"),
        )
    return Trial(name, "this machine", lambda log: _lack(f"Python {version} is not at hand"), reasons)


def _need_root() -> None:
    if os.geteuid() != 0:
        _lack("a Debian system of its own takes root")


def _lack(why: str) -> None:
    raise SkippedError(why)


def try_out(trial: Trial, logs: Path) -> bool:
    """Run *trial* and say how it went; false when it failed."""
    path = logs / f"{trial.name}.log"
    begin = time.monotonic()
    failure = ""
    with path.open("w+b") as log:
        try:
            trial.run(log)
        except SkippedError as reason:
            print(f"{trial.name} ({trial.what}): not tried, {reason}", flush=True)
            return True
        except (TrialError, DrypointError, subprocess.SubprocessError) as error:
            failure = str(error)
    printed = path.read_text(errors="replace")
    not_run = _NOT_RUN.findall(printed)
    unexpected = [line for line in not_run if not any(reason in line for reason in trial.reasons)]
    if unexpected and not failure:
        failure = f"tests were skipped that could run: {'; '.join(unexpected)}"
    seconds = time.monotonic() - begin
    lines = [f"{trial.name} ({trial.what}): {'failed, ' + failure if failure else 'passed'} in {seconds:.0f} s"]
    lines += [f"    {line}" for line in (printed.splitlines()[-_SHOWN_LINES:] if failure else not_run)]
    if failure:
        lines.append(f"all that was printed: {path}")
    print("\n".join(lines), flush=True)
    return not failure


def main(names: list[str]) -> int:
    trials = [trial for trial in all_trials() if not names or trial.name in names]
    _LOGS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=2) as pool:
        passed = list(pool.map(lambda trial: try_out(trial, _LOGS), trials))
    print(f"fresh machines: {sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if trials and all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
