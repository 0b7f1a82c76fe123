"""Small files that options name."""

from __future__ import annotations

from pathlib import Path

from ..balena.apps_json import MAX_BYTES
from ..errors import UsageError


def read_file(path: Path) -> bytes:
    """A small file that an option names, with one byte more than is taken at most, so that its reader sees it is too large.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
