"""Parsing ``.env`` files as Compose does.

Format: compose-go's dotenv/parser.go, which `docker compose` uses: ``NAME=VALUE`` or ``NAME: VALUE``, ``export``
before the name, values in single quotes (literal) or double quotes (escapes and variables are expanded) over several lines,
comments after `` #``. A name alone takes its value from the environment. Other dialects differ: docs/adr/0013-libraries.md.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping

from ..errors import UsageError
from .interpolation import interpolate

MAX_ENVIRONMENT_BYTES = 1 << 20
_MAX_CHARACTERS = 1 << 20
# The characters of Go's unicode.IsSpace, and those that the parser takes for space within a line.
_WHITE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_INLINE = "\t\v\f\r \x85\xa0"
_SKIPPED = re.compile(rf"(?:[{_WHITE}]|\#[^\n]*)*+")
_KEY = re.compile(rf"(?:export(?=[\t\n\f\r ]))?[{_INLINE}]*+([^=:\n]*+)([=:\n]?)[{_INLINE}]*+")
_NAME = re.compile(rf"[\w.\-\[\]{_INLINE}]*")
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_UNQUOTED = re.compile(r"[^\n]*")
_ESCAPE = re.compile(r"\\(?:0([0-9]{0,3})|([abfnrtv$\"\\]))")
_CHARACTERS = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "$": "$$",
    '"': '"',
    "\\": "\\",
}
_OCTAL = re.compile("[0-3][0-7]{2}")


def read_environment(content: bytes, what: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a ``.env`` file; *what* names it in messages.

    Args:
        environment: for variables in values; as in Compose, it takes precedence over the lines above.

    Raises:
        UsageError: the file is too large, is not UTF-8 text, or Compose refuses it. No value is quoted: it may be a secret.
    """
    if len(content) > MAX_ENVIRONMENT_BYTES:
        raise UsageError(f"{what} has more than {MAX_ENVIRONMENT_BYTES} bytes, too many for a file of variables")
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not UTF-8 text: byte {error.start}") from None
    return _Reader(text, what, environment).read()


class _Reader:
    def __init__(self, text: str, what: str, environment: Mapping[str, str]) -> None:
        self._text = text
        self._what = what
        self._environment = environment
        self._found: dict[str, str] = {}
        self._known = ChainMap(dict(environment), self._found)
        self._left = _MAX_CHARACTERS
        self._position = 0

    def read(self) -> dict[str, str]:
        self._take(_SKIPPED)
        while (start := self._position) < len(self._text):
            key = self._take(_KEY)
            name = key[1].rstrip(_INLINE)
            if _NAME.fullmatch(key[1]) is None or not key[1] + key[2] or (key[2] and " " in name):
                raise self._error(start, "expected NAME=VALUE")
            if key[2] == "\n":
                if name in self._environment:
                    self._found[name] = self._environment[name]
            elif key[2]:
                self._found[name] = self._value(start, name)
            self._take(_SKIPPED)
        return self._found

    def _value(self, start: int, name: str) -> str:
        match self._text[self._position : self._position + 1]:
            case "'":
                return self._quoted(_SINGLE_QUOTED, start, name).replace("\\'", "'")
            case '"':
                template = _ESCAPE.sub(_unescaped, self._quoted(_DOUBLE_QUOTED, start, name))
            case _:
                template = self._take(_UNQUOTED)[0].partition(" #")[0].rstrip(_WHITE)
        try:
            value = interpolate(template, self._known, name, self._left)
        except UsageError:
            fault = f"the value of {name} has a ${{...}} that Compose refuses, or expands to too much"
            raise self._error(start, fault) from None
        self._left -= len(value)
        return value

    def _quoted(self, pattern: re.Pattern[str], start: int, name: str) -> str:
        quoted = pattern.match(self._text, self._position)
        if quoted is None:
            raise self._error(start, f"the value of {name} has no closing quote")
        self._position = quoted.end()
        return quoted[1]

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """The match of a pattern that always matches, maybe the empty text."""
        found = pattern.match(self._text, self._position)
        assert found is not None
        self._position = found.end()
        return found

    def _error(self, position: int, fault: str) -> UsageError:
        return UsageError(f"{self._what}, line {self._text.count(chr(10), 0, position) + 1}: {fault}")


def _unescaped(escape: re.Match[str]) -> str:
    if escape[2]:
        return _CHARACTERS[escape[2]]
    digits: str = escape[1]
    return chr(int(digits, 8)) if _OCTAL.fullmatch(digits) else "\\" + digits
