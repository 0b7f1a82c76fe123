"""Writing bytes to standard output, for other programs."""

from __future__ import annotations

import os
import sys

from ..errors import OutputError, UsageError


class StandardOutput:
    """Writes all of each piece to standard output.

    Args:
        what: an archive or a disk image, for the message.
        instead: another way.

    Raises:
        UsageError: standard output is a terminal.
        OutputError: from :meth:`write`: it cannot be written.
    """

    def __init__(self, what: str, instead: str) -> None:
        if sys.stdout.isatty():
            raise UsageError(f"{what} is not written to a terminal: redirect standard output, or {instead}")
        self._what = what
        sys.stdout.flush()

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(sys.stdout.fileno(), view) :]
        except OSError as error:
            raise OutputError(f"cannot write {self._what} to standard output: {error.strerror}") from error
