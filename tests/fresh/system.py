"""A new Debian system to run commands in, as root or as an ordinary user, with the checkout in the home directory.

It has what a stranger's machine has who wants to try drypoint: Python and make. Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from drypoint.samples.tools import find_tool, run_tool
from tests.support.debian import kept_system

from .packages import local_paths, pip_environment

_RECIPE = 2
_PACKAGES = ("python3", "make", "ca-certificates")
_USER = 1000
_SECONDS = 1800.0
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USER_PATH = "/usr/local/bin:/usr/bin:/bin"
"""What Debian gives an ordinary user: without the sbin directories."""
# The arguments are the system's directory, how many directories or files of the machine to show in it, these, the pip cache,
# the home directory, and the command. All mounts end with the command.
_ENTER = """
set -eu
system=$1 count=$2
shift 2
mount -t proc proc "$system/proc"
mount --rbind /dev "$system/dev"
while [ "$count" -gt 0 ]; do
    mount --bind "$1" "$system$1"
    mount -o remount,bind,ro "$system$1"
    count=$((count - 1))
    shift
done
mount --bind "$1" "$system$2/.cache/pip"
shift 2
exec chroot "$system" "$@"
"""


@dataclass(frozen=True, slots=True)
class FreshSystem:
    """Runs commands in the system below *directory*; what they print goes to *log*."""

    directory: Path
    checkout: str
    """The path of the clone, as commands see it."""
    log: IO[bytes]
    shown: Sequence[Path]
    """What is there from the machine, at the same place: where pip has packages from."""
    environment: dict[str, str]

    def run(self, command: str, *, root: bool) -> int:
        """Run the shell *command* in the checkout, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: it takes too long; it was ended.
        """
        home = _home(root=root)
        environment = {"HOME": home, "PATH": _ROOT_PATH, "TERM": "dumb", **self.environment}
        user = 0 if root else _USER
        become = (
            [] if root else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--bounding-set=-all"]
        )
        arguments = [str(self.directory), str(len(self.shown)), *map(str, self.shown), str(_pip_cache(user)), home]
        path = _ROOT_PATH if root else _USER_PATH
        inside = [*become, "env", f"PATH={path}", "sh", "-c", f"cd {self.checkout} && {command}"]
        self.log.write(f"\n$ {command}\n".encode())
        self.log.flush()
        alone = ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        done = subprocess.run(
            [find_tool("unshare"), *alone, "sh", "-c", _ENTER, "sh", *arguments, *inside],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            timeout=_SECONDS,
            check=False,
        )
        return done.returncode


@contextmanager
def fresh_system(suite: str, checkout: Path, log: IO[bytes], *packages: str, root: bool) -> Iterator[FreshSystem]:
    """A new system of *suite*, with *packages* besides Python and make, and a clone of *checkout* in the home directory.

    Raises:
        ToolError: a program is missing, or debootstrap failed.
    """
    kept = kept_system("fresh-root" if root else "fresh-user", suite, *_PACKAGES, *packages, recipe=_RECIPE)
    environment = pip_environment()
    with tempfile.TemporaryDirectory(prefix="drypoint-fresh-") as scratch:
        directory = Path(scratch, "system")
        run_tool("cp", "--archive", "--reflink=auto", kept, directory)
        shutil.copy("/etc/resolv.conf", directory / "etc/resolv.conf")
        (directory / "etc/hosts").write_text("127.0.0.1 localhost\n")
        home = directory / _home(root=root)[1:]
        if not root:
            run_tool("chroot", directory, "useradd", "--create-home", "--uid", str(_USER), "stranger")
        run_tool("git", "clone", "--quiet", "--no-hardlinks", checkout, home / "drypoint")
        for owner in {home, directory / "root"}:
            (owner / ".cache/pip").mkdir(parents=True)
        if not root:
            run_tool("chown", "--recursive", f"{_USER}:{_USER}", home)
        shown = [_place(path, directory) for path in local_paths(environment)]
        yield FreshSystem(directory, f"{_home(root=root)}/drypoint", log, list(dict.fromkeys(shown)), environment)


def _home(*, root: bool) -> str:
    return "/root" if root else "/home/stranger"


def _pip_cache(user: int) -> Path:
    """pip uses only a cache that belongs to its user."""
    path = platformdirs.user_cache_path("drypoint", appauthor=False, ensure_exists=True) / f"fresh-pip-{user}"
    path.mkdir(exist_ok=True)
    os.chown(path, user, user)
    return path


def _place(path: Path, directory: Path) -> Path:
    """What to show so that *path* is there: the topmost directory that the system lacks, as an index points beside itself."""
    missing = [part for part in (*reversed(path.parents), path) if not (directory / str(part)[1:]).exists()]
    shown = missing[0] if missing else path
    target = directory / str(shown)[1:]
    if shown.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    return shown
