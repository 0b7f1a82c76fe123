"""Reading small files that the user names."""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError


def read_file(path: Path, limit: int) -> bytes:
    """The content of a small file, at most one byte more than *limit*, so that the caller sees that it is too large.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
