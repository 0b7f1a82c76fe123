"""Expanding variables in a Compose file or its ``.env`` file.

Format: the Compose Specification, "Interpolation": ``$VAR``, ``${VAR}`` and the ``:-`` ``-`` ``:?`` ``?`` ``:+`` ``+`` forms,
nested too; ``$$`` is a dollar sign. Where the specification is silent, compose-go's template/template.go decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ..errors import UsageError

_MAX_DEPTH = 16
_MAX_TEXT = 4096
_MAX_BRACES = 1 << 18
"""Looked at to find the ends of expressions; each counts once for each level that it is in."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACE = re.compile("[{}]")


def interpolate(text: str, environment: Mapping[str, str], where: str, longest: int = _MAX_TEXT) -> str:
    """*text* with its variables expanded; a variable that is not set is empty, as in Compose.

    Args:
        where: the place, for messages.
    longest: characters that the result may have.

    Raises:
    UsageError: a form that Compose does not have, a required variable that is not set, or a result that is too long. The
        message quotes *text*.
    """
    return _Expansion(environment, where, longest).expand(text, 0)


class _Expansion:
    def __init__(self, environment: Mapping[str, str], where: str, longest: int) -> None:
        self._environment = environment
        self._where = where
        self._longest = longest
        self._braces = 0

    def expand(self, text: str, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise UsageError(f"{self._where}: its variables are nested more than {_MAX_DEPTH} deep")
        return "".join(self._bounded(self._parts(text, depth)))

    def _bounded(self, parts: Iterable[str]) -> Iterator[str]:
        left = self._longest
        for part in parts:
            left -= len(part)
            if left < 0:
                raise UsageError(
                    f"{self._where}: with its variables expanded it has more than {self._longest} characters"
                )
            yield part

    def _parts(self, text: str, depth: int) -> Iterator[str]:
        position = 0
        while (dollar := text.find("$", position)) >= 0:
            yield text[position:dollar]
            if text.startswith("$$", dollar):
                yield "$"
                position = dollar + 2
            elif text.startswith("${", dollar):
                end = self._closing(text, dollar + 2)
                yield self._braced(text[dollar + 2 : end], depth)
                position = end + 1
            elif (name := _NAME.match(text, dollar + 1)) is not None:
                yield self._environment.get(name[0], "")
                position = name.end()
            else:
                yield "$"
                position = dollar + 1
        yield text[position:]

    def _closing(self, text: str, start: int) -> int:
        """The offset of the brace that closes the one before *start*; the last one if the braces in between do not pair."""
        depth = 1
        for brace in _BRACE.finditer(text, start):
            self._braces += 1
            if self._braces > _MAX_BRACES:
                raise UsageError(f"{self._where}: it has too many braces in each other")
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                return brace.start()
        if (last := text.rfind("}", start)) >= 0:
            return last
        raise UsageError(f"{self._where}: ${{ without a closing brace in {text[:100]!r}")

    def _braced(self, expression: str, depth: int) -> str:
        name = _NAME.match(expression)
        if name is None:
            raise UsageError(f"{self._where}: ${{{expression[:100]}}} names no variable")
        rest = expression[name.end() :]
        value = self._environment.get(name[0])
        if not rest:
            return value or ""
        operator, operand = (rest[:2], rest[2:]) if rest[0] == ":" else (rest[:1], rest[1:])
        present = value if operator[0] != ":" else value or None
        match operator[-1:]:
            case "-":
                return self.expand(operand, depth + 1) if present is None else present
            case "+":
                return "" if present is None else self.expand(operand, depth + 1)
            case "?":
                if present is None:
                    reason = self.expand(operand, depth + 1)[:200]
                    raise UsageError(
                        f"{self._where}: the variable {name[0]} has to be set: {reason or 'it is required'}"
                    )
                return present
            case _:
                raise UsageError(f"{self._where}: Compose has no form ${{{expression[:100]}}}")
