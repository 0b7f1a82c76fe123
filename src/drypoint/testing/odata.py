"""Enough of OData to answer as pinejs does what drypoint asks: $select, $filter, $expand, $orderby, $top over rows in memory.

Format: OData 4.01 URL conventions. Anything else is an error, as a server answers with 400. Relations are lists of rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Row: TypeAlias = Mapping[str, object]
_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(-?\d+)|([A-Za-z_][A-Za-z0-9_/]*)|([():,]))")


def answer(rows: Sequence[Row], query: Mapping[str, str]) -> list[dict[str, object]]:
    """Those of *rows* that *query* asks for, with no more in them than it asks for.

    Raises:
        ValueError: it cannot be understood.
    """
    unknown = set(query) - {"$select", "$filter", "$expand", "$orderby", "$top"}
    if unknown:
        raise ValueError(f"unknown options {unknown}")
    found = [row for row in rows if "$filter" not in query or _Filter(query["$filter"]).holds(row)]
    for order in reversed(query.get("$orderby", "").split(",") if query.get("$orderby") else []):
        field, _, direction = order.partition(" ")
        found.sort(key=lambda row, field=field: str(row[field]).zfill(30), reverse=direction == "desc")  # type: ignore[misc]
    return [_shown(row, query) for row in found[: int(query["$top"]) if "$top" in query else None]]


def _shown(row: Row, options: Mapping[str, str]) -> dict[str, object]:
    names = (
        options["$select"].split(",")
        if "$select" in options
        else [name for name, value in row.items() if not isinstance(value, list)]
    )
    shown = {name: row[name] for name in names}
    for part in _split(options.get("$expand", ""), ","):
        name, _, inner = part.partition("(")
        nested = dict(option.split("=", 1) for option in _split(inner.removesuffix(")"), ";"))
        related = row[name]
        if not isinstance(related, list):
            raise ValueError(f"{name} is no relation")  # noqa: TRY004 - what the caller asked for is wrong, not a type
        shown[name] = [_shown(one, nested) for one in related]
    return shown


def _split(text: str, separator: str) -> list[str]:
    """*text* at each *separator* that stands in no parentheses."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [part for part in (*parts, text[start:]) if part]


class _Filter:
    """An expression of comparisons with ``and``, ``or``, ``startswith`` and ``any``."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        place = 0
        while place < len(text.rstrip()):
            match = _TOKEN.match(text, place)
            if match is None:
                raise ValueError(f"cannot be read from {text[place:]!r}")
            self._tokens.append(match[0].strip())
            place = match.end()
        self._place = 0

    def holds(self, row: Row) -> bool:
        self._place = 0
        result = self._any_of({"": row})
        if self._place != len(self._tokens):
            raise ValueError(f"too much: {self._tokens[self._place :]}")
        return result

    def _any_of(self, scope: Mapping[str, Row]) -> bool:
        result = self._all_of(scope)
        while self._take_if("or"):
            result = self._all_of(scope) or result
        return result

    def _all_of(self, scope: Mapping[str, Row]) -> bool:
        result = self._term(scope)
        while self._take_if("and"):
            result = self._term(scope) and result
        return result

    def _term(self, scope: Mapping[str, Row]) -> bool:
        if self._take_if("("):
            result = self._any_of(scope)
            self._take(")")
            return result
        word = self._next()
        if word == "startswith":
            self._take("(")
            value = self._value(self._next(), scope)
            self._take(",")
            start = self._value(self._next(), scope)
            self._take(")")
            return str(value).startswith(str(start))
        if word.endswith("/any"):
            return self._any_related(word.removesuffix("/any"), scope)
        left = self._value(word, scope)
        self._take("eq")
        return left == self._value(self._next(), scope)

    def _any_related(self, path: str, scope: Mapping[str, Row]) -> bool:
        related = self._value(path, scope)
        if not isinstance(related, list):
            raise ValueError(f"{path} is no relation")  # noqa: TRY004
        self._take("(")
        name = self._next()
        self._take(":")
        start, result = self._place, False
        for one in related or [{}]:
            self._place = start
            result = (self._any_of({**scope, name: one}) and bool(related)) or result
        self._take(")")
        return result

    def _value(self, word: str, scope: Mapping[str, Row]) -> object:
        if word.startswith("'"):
            return word[1:-1].replace("''", "'")
        if word in ("true", "false"):
            return word == "true"
        if word.lstrip("-").isdecimal():
            return int(word)
        head, _, rest = word.partition("/")
        row, field = (scope[head], rest) if head in scope and rest else (scope[""], word)
        # A relation without rows has no fields to name.
        return row.get(field, []) if not row else row[field]

    def _next(self) -> str:
        if self._place == len(self._tokens):
            raise ValueError("too short")
        self._place += 1
        return self._tokens[self._place - 1]

    def _take(self, token: str) -> None:
        if self._next() != token:
            raise ValueError(f"expected {token!r}")

    def _take_if(self, token: str) -> bool:
        if self._place < len(self._tokens) and self._tokens[self._place] == token:
            self._place += 1
            return True
        return False
