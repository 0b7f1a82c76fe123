"""The challenges of a WWW-Authenticate header.

Format: RFC 7235, sections 2.1 and 4.1: a header may hold several challenges, separated by commas like the parameters of a
challenge; a registry may also send the header several times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

_MAX_HEADER = 16 << 10
_MAX_CHALLENGES = 16
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_GAP = re.compile(r"[ \t]*(?:,[ \t]*)*")
_BLANKS = re.compile(r"[ \t]+")


class Challenge(msgspec.Struct, frozen=True):
    """One challenge; its scheme and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Parse WWW-Authenticate headers; a malformed part ends its header, the challenges before it count."""
    found: list[Challenge] = []
    for header in headers:
        found.extend(_challenges(header[:_MAX_HEADER]))
    return tuple(found[:_MAX_CHALLENGES])


def _challenges(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    parameters: dict[str, str] | None = None
    position = 0
    while True:
        position = _skip(_GAP, header, position)
        name = _TOKEN.match(header, position)
        if name is None:
            return found
        equals = _EQUALS.match(header, name.end())
        if equals is not None and parameters is not None:
            value, position = _value(header, equals.end())
            if value is None:
                return found
            # The first of two equal names counts, so that a second cannot override it.
            parameters.setdefault(name[0].lower(), value)
            continue
        parameters = {}
        found.append(Challenge(name[0].lower(), parameters))
        position = name.end()
        blanks = _BLANKS.match(header, position)
        if blanks is not None and (token68 := _TOKEN68.match(header, blanks.end())) is not None:
            # A lone word after the scheme: token68 ("Negotiate dGV4dA=="). No supported scheme uses it.
            position = token68.end()


def _value(header: str, position: int) -> tuple[str | None, int]:
    quoted = _QUOTED.match(header, position)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end()
    token = _TOKEN.match(header, position)
    return (token[0], token.end()) if token is not None else (None, position)


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match is not None else position
