"""Output in encodings that lack characters which drypoint prints: latin-1, ASCII."""

from __future__ import annotations

import codecs
import io
import sys

_HANDLER = "drypoint.plain"
_PLAIN = {"…": "...", "–": "-", "×": "x"}


def print_in_any_encoding() -> None:
    """Let standard output and error show what their encoding lacks in plain letters, or as an escape, instead of failing."""
    codecs.register_error(_HANDLER, _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors=_HANDLER)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    shown = "".join(
        _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode() for character in lacking
    )
    return shown, error.end
