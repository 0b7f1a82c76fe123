"""Numeric identifiers of apps, releases and services, as the Supervisor's JavaScript reads them.

Source: balena-supervisor, src/types/basic.ts (``NumericIdentifier``, ``StringIdentifier``) since 12.11.15, ``checkInt`` of
src/lib/validation.ts before. ``Number`` and ``parseInt`` are those of ECMA-262.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = "dict[str, Json]"

_SPACE = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f"
    "\u3000\ufeff"
)
"""The characters that JavaScript trims from a text before it converts it to a number."""
_DECIMAL = re.compile(r"([+-]?[0-9]+)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_ZERO = re.compile(r"0[xXoObB]0+")
_LEADING_NUMBER = re.compile(r"[+-]?[0-9]")
_WHOLE = re.compile(r"-?[0-9]+\.?0*")
_CANONICAL = re.compile(r"0|[1-9][0-9]*")
_LEAST_WITH_EXPONENT = 10**21
"""From here on JavaScript prints a number with an exponent, which ``parseInt`` does not read."""


def is_identifier(value: Json) -> bool:
    """Whether *value* is a non-negative integer, or the text of one."""
    match value:
        case bool():
            return False
        case int() | float():
            return 0 <= value < _LEAST_WITH_EXPONENT and value == int(value)
        case str():
            return is_identifier_text(value)
        case _:
            return False


def is_identifier_text(text: str) -> bool:
    """Whether ``+text === parseInt(text, 10) && +text >= 0``, as for ``12``, ``12.0``, ``+5`` and ``0e1``."""
    text = text.strip(_SPACE)
    if _ZERO.fullmatch(text):
        return True
    match = _DECIMAL.fullmatch(text)
    return match is not None and float(text) == float(match[1]) and float(text) >= 0


def is_small(value: Json) -> bool:
    """Whether an identifier stays the same when it is converted to a number and back to a text."""
    return not isinstance(value, str) or _ZERO.fullmatch(value.strip(_SPACE)) is not None or float(value) < 1e21


def is_zero(value: Json) -> bool:
    """Whether an identifier is 0."""
    return number_of(value) == 0


def number_of(value: Json) -> float:
    """The number of an identifier; NaN for anything else."""
    if not is_identifier(value):
        return float("nan")
    if isinstance(value, str):
        return 0.0 if _ZERO.fullmatch(value.strip(_SPACE)) else float(value.strip(_SPACE))
    return float(value) if isinstance(value, (int, float)) else float("nan")


def integer_of(value: Json) -> int:
    """The integer of a checked identifier."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _CANONICAL.fullmatch(value):
        return int(value)
    return int(number_of(value))


def begins_with_number(text: str) -> bool:
    """Whether ``parseInt(text, 10)`` finds a number, as in ``1f0a``."""
    return _LEADING_NUMBER.match(text.lstrip(_SPACE)) is not None


def is_whole(value: Json) -> bool:
    """Whether Supervisors before 12.11.15 accept *value* as an integer, which may be negative."""
    match value:
        case bool():
            return False
        case int() | float():
            return abs(value) < _LEAST_WITH_EXPONENT and value == int(value)
        case str():
            return _WHOLE.fullmatch(value) is not None
        case _:
            return False


def is_canonical(text: str) -> bool:
    """Whether JavaScript prints the number *text* as *text*."""
    return _CANONICAL.fullmatch(text.removeprefix("-")) is not None and len(text) <= 16


def is_array_index(key: str) -> bool:
    """Whether JavaScript lists *key* before keys that are not numbers, in numerical order."""
    return _CANONICAL.fullmatch(key) is not None and len(key) <= 10 and int(key) < 2**32 - 1


def first_key(members: JsonObject) -> str:
    """The key that JavaScript lists first: small integers come before all others."""
    return min(members, key=lambda key: (0, int(key)) if is_array_index(key) else (1, 0))
