"""Running the programs that the tests and the demo need, with the Debian packages that have them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import ToolError

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Debian's own directories only, so that no other program shadows one of Debian's."""

_PACKAGES = {
    "7zz": "7zip",
    "chroot": "coreutils",
    "cryptsetup": "cryptsetup-bin",
    "debootstrap": "debootstrap",
    "debugfs": "e2fsprogs",
    "docker": "docker.io",
    "docker-registry": "docker-registry",
    "dockerd": "docker.io",
    "e2fsck": "e2fsprogs",
    "losetup": "mount",
    "mcopy": "mtools",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.f2fs": "f2fs-tools",
    "mkfs.vfat": "dosfstools",
    "mount": "mount",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "tar-split": "tar-split",
    "umount": "mount",
    "unshare": "util-linux",
}
_SHOWN_OUTPUT = 2000


def missing_tools(names: Iterable[str]) -> tuple[str, ...]:
    """The programs of *names* that are not installed, in the given order."""
    return tuple(name for name in names if shutil.which(name, path=SEARCH_PATH) is None)


def require_tools(*names: str) -> None:
    """Check all programs at once, so that the user installs once.

    Raises:
        ToolError: one or more are not installed; the message names their Debian packages.
    """
    missing = missing_tools(names)
    if missing:
        packages = " ".join(sorted({_PACKAGES.get(name, name) for name in missing}))
        verb = "is" if len(missing) == 1 else "are"
        raise ToolError(f"{', '.join(missing)} {verb} not installed: apt-get install {packages}")


def find_tool(name: str) -> str:
    """The full path of the program *name*.

    Raises:
        ToolError: it is not installed; the message names its Debian package.
    """
    require_tools(name)
    return shutil.which(name, path=SEARCH_PATH) or name


def tool_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of tools: Debian's programs, messages in English, and *extra*."""
    return {**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **(extra or {})}


def run_tool(
    name: str,
    *arguments: str | Path,
    extra_environment: Mapping[str, str] | None = None,
    script: str | None = None,
    accepted: Sequence[int] = (0,),
    timeout: float = 300.0,
) -> str:
    """Run the program *name* to its end and return its standard output.

    Args:
        script: text for its standard input; without it the input is empty.
        accepted: exit statuses that count as success.
        timeout: seconds after which the program is killed.

    Raises:
        ToolError: the program is missing, failed, or took too long; the message quotes the end of its output.
    """
    command = [find_tool(name), *(os.fspath(argument) for argument in arguments)]
    try:
        done = subprocess.run(
            command,
            input=(script or "").encode(),
            capture_output=True,
            env=tool_environment(extra_environment),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{' '.join(command)} did not end within {timeout:g} seconds") from error
    if done.returncode not in accepted:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()[-_SHOWN_OUTPUT:]
        raise ToolError(f"{' '.join(command)} failed with exit status {done.returncode}: {said or 'it said nothing'}")
    return done.stdout.decode(errors="surrogateescape")
