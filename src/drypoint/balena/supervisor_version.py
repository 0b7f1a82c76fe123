"""The Supervisor's version, as in tags, supervisor.conf and options."""

from __future__ import annotations

import re

import msgspec

from ..errors import UsageError

_VERSION = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})(?:[-+_.].*)?", re.DOTALL)


class SupervisorVersion(msgspec.Struct, frozen=True, order=True):
    """A version of the Supervisor; what follows the three numbers is ignored."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.major, self.minor, self.patch


def version_in(text: str) -> SupervisorVersion | None:
    """The version *text*, ``v16.1.10`` or ``16.1.10``; None if it is not a version."""
    match = _VERSION.fullmatch(text.strip())
    return None if match is None else SupervisorVersion(int(match[1]), int(match[2]), int(match[3]))


def parse_supervisor_version(text: str) -> SupervisorVersion:
    """Read ``v16.1.10`` or ``16.1.10``.

    Raises:
        UsageError: it is not a version.
    """
    version = version_in(text)
    if version is None:
        raise UsageError(f"{text[:80]!r} is not a version of the Supervisor; one looks like v16.1.10")
    return version
