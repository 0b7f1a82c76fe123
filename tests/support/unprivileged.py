"""Running a program as an unprivileged user, wherever the checkout is. Needs root.

The user must be able to run this Python and to import drypoint, but the checkout or Python may be below a directory that only
its owner may enter: a home of mode 0700. Then the program runs in a mount namespace of its own, in which that directory has
only what the program needs; the mounts end with the program.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

NOBODY = 65534
"""User and group id."""

_STAGE = "/mnt"
# The arguments are the directory to hide, the number of directories to show in it, these, and the command.
_SHOW = f"""
set -eu
covered=$1 count=$2
shift 2
mask=$(umask)
umask 022
mount -t tmpfs -o mode=0755 stage {_STAGE}
number=0
for directory in "$@"; do
    [ "$number" -lt "$count" ] || break
    mkdir {_STAGE}/$number
    mount --rbind "$directory" {_STAGE}/$number
    number=$((number + 1))
done
mount -t tmpfs -o mode=0755 cover "$covered"
number=0
while [ "$number" -lt "$count" ]; do
    mkdir -p "$1"
    mount --move {_STAGE}/$number "$1"
    number=$((number + 1))
    shift
done
umount {_STAGE}
umask "$mask"
exec "$@"
"""


def as_nobody(*, capabilities: bool = True) -> list[str]:
    """The prefix of a command that runs it as the user nobody, with access to this Python and drypoint.

    Args:
        capabilities: if False, not even a program with file capabilities gets any.
    """
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if not capabilities:
        drop += ["--inh-caps=-all", "--bounding-set=-all"]
    command = drop
    for covered, shown in _out_of_reach(_needed()).items():
        show = ["unshare", "--mount", "--propagation=private", "sh", "-c", _SHOW, "sh"]
        command = [*show, str(covered), str(len(shown)), *map(str, shown), *command]
    return command


def _needed() -> list[Path]:
    package = Path(__file__).resolve().parents[2]
    return [package, Path(sys.prefix), Path(sys.base_prefix), Path(tempfile.gettempdir())]


def _out_of_reach(needed: Iterable[Path]) -> dict[Path, list[Path]]:
    """The topmost directories that the user nobody may not enter, each with the paths of *needed* below it."""
    found: dict[Path, list[Path]] = {}
    for path in needed:
        real = path.resolve()
        for directory in reversed(real.parents):
            if not directory.stat().st_mode & 0o001:
                shown = found.setdefault(directory, [])
                if not any(real.is_relative_to(other) for other in shown):
                    shown[:] = [*(other for other in shown if not other.is_relative_to(real)), real]
                break
    return found
