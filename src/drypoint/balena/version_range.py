"""Version ranges in npm's syntax, for versions of three numbers.

Format: node-semver, README "Ranges" and "Range Grammar". Pre-releases and build metadata are not supported.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Numbers: TypeAlias = "tuple[int, int, int]"
_MAX_LENGTH = 200
_PARTIAL = r"v?([0-9]{1,9}(?:\.[0-9]{1,9}){2}|(?:[0-9]{1,9}\.){0,2}[xX*](?:\.[xX*]){0,2}|[0-9]{1,9}(?:\.[0-9]{1,9})?)"
_HYPHEN = re.compile(rf"\s*{_PARTIAL}\s+-\s+{_PARTIAL}\s*")
_COMPARATOR = re.compile(rf"\s*(>=|<=|>|<|=|\^|~>|~)?\s*{_PARTIAL}(?=\s|$)")
_ALL = ((0, 0, 0), None)

_Interval: TypeAlias = "tuple[Numbers, Numbers | None]"
"""From the first version to before the second; None means no end."""


def satisfies(version: Numbers, text: str) -> bool | None:
    """Whether *version* is in the range *text*; None if *text* is not a range, or uses unsupported syntax."""
    if len(text) > _MAX_LENGTH:
        return None
    verdicts = [_satisfies_all(version, part) for part in text.split("||")]
    return None if None in verdicts else any(verdicts)


def _satisfies_all(version: Numbers, text: str) -> bool | None:
    hyphen = _HYPHEN.fullmatch(text)
    if hyphen is not None:
        intervals = [_interval(">=", hyphen[1]), _interval("<=", hyphen[2])]
    else:
        intervals = []
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _COMPARATOR.match(text, position)
            if match is None:
                return None
            intervals.append(_interval(match[1] or "=", match[2]))
            position = match.end()
    if None in intervals:
        return None
    return all(low <= version and (high is None or version < high) for low, high in filter(None, intervals))


def _interval(operator: str, partial: str) -> _Interval | None:
    given = [int(text) for text in partial.split(".") if text.isdecimal()]
    if partial.count(".") > 2:
        return None
    if not given:
        # None: no supported version satisfies ``>*`` or ``<*``.
        return None if operator in ("<", ">") else _ALL
    low = _filled(given)
    after = _next(given, len(given) - 1)
    match operator:
        case ">=":
            return low, None
        case ">":
            return after, None
        case "<":
            return (0, 0, 0), low
        case "<=":
            return (0, 0, 0), after
        case "^":
            # Below the next value of the first number that is not 0, or of the last given number.
            return low, _next(given, next((at for at, number in enumerate(given) if number), len(given) - 1))
        case "~" | "~>":
            return low, _next(given, min(1, len(given) - 1))
        case _:
            return low, after


def _next(given: list[int], at: int) -> Numbers:
    """The first version after all that start with the numbers of *given* up to index *at*."""
    return _filled([*given[:at], given[at] + 1])


def _filled(given: list[int]) -> Numbers:
    major, minor, patch = (*given, 0, 0)[:3]
    return major, minor, patch
