"""scripts/debian-packages names all that is missing at once, with a command that installs it, or installs it.

The programs that it runs are stand-ins: a dpkg-query that has one package, an apt-get that writes down what it was asked.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.scripts import ROOT

_USED = ("sh", "sed", "grep", "ls", "cat")
_DPKG = "#!/bin/sh\nprintf 'ii  mtools\\nrc  fdisk\\n'\n"
_APT = '#!/bin/sh\necho "$@" >>"$LOG"\ncase "$*" in *unheard-of*) exit 100 ;; esac\n'


def run(directory: Path, *arguments: str, user: int = 1000, debian: bool = True) -> tuple[int, str, list[str]]:
    """Run the script as *user*; gives its exit status, what it printed, and what apt-get was asked."""
    programs = directory / "bin"
    programs.mkdir()
    for name in _USED:
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    stand_ins = {"id": f"#!/bin/sh\necho {user}\n"}
    if debian:
        stand_ins |= {"dpkg-query": _DPKG, "apt-get": _APT}
    for name, script in stand_ins.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    log = directory / "log"
    log.touch()
    done = subprocess.run(
        ["sh", ROOT / "scripts/debian-packages", *arguments],
        env={"PATH": str(programs), "LOG": str(log)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, log.read_text().splitlines()


def test_a_user_gets_one_command_for_all_packages(tmp_path: Path) -> None:
    """Required or optional; one that was removed and left its configuration is missing."""
    status, said, asked = run(tmp_path, "the demo", "mtools", "dosfstools", "--", "fdisk", "zip")
    first, command = said.splitlines()
    assert (status, asked) == (1, [])
    assert first == "the demo needs Debian packages that are missing. Install them with:"
    assert command.endswith("sudo apt-get install --no-install-recommends dosfstools fdisk zip")


def test_what_is_optional_stops_no_user(tmp_path: Path) -> None:
    status, said, _ = run(tmp_path, "the tests", "mtools", "--", "zip")
    assert status == 0
    assert said.startswith("the tests can do more with Debian packages that are missing.")


def test_nothing_is_said_when_nothing_is_missing(tmp_path: Path) -> None:
    assert run(tmp_path, "the demo", "mtools", "--") == (0, "", [])


def test_root_installs_all_at_once(tmp_path: Path) -> None:
    status, _, asked = run(tmp_path, "the demo", "dosfstools", "--", "zip", user=0)
    assert (status, asked) == (0, ["install -qq -y --no-install-recommends dosfstools zip"])


@pytest.mark.parametrize(("packages", "status"), [(("zip", "--", "unheard-of"), 0), (("unheard-of", "--", "zip"), 100)])
def test_a_package_that_this_debian_lacks_fails_only_what_requires_it(
    tmp_path: Path, packages: tuple[str, ...], status: int
) -> None:
    found, _, asked = run(tmp_path, "the tests", *packages, user=0)
    assert found == status
    assert asked[1] == "update -qq"


def test_other_distributions_need_the_programs(tmp_path: Path) -> None:
    """With a package for what no program shows, such as Python's venv; the tests name what else they lack."""
    status, said, _ = run(tmp_path, "the demo", "python3-venv", "--", "docker.io", debian=False)
    assert (status, said) == (1, "the demo needs these programs, which Debian has as: python3-venv\n")
