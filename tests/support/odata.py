"""The part of pinejs that answers drypoint's requests: $select, $filter, $expand, $orderby, $top and $skip over rows in memory.

Relations are lists of rows. If pinejs cannot translate a query (an unknown field), or the database cannot compare values (a
number beyond its columns), the status is 500.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, assert_never

from tests.support.odata_terms import (
    Any,
    Call,
    Expression,
    Literal,
    Not,
    Operation,
    Options,
    Order,
    Path,
    Request,
)
from tests.support.odata_url import NotKnownError

Row: TypeAlias = Mapping[str, object]
_LARGEST_INTEGER = 2**31 - 1


class UntranslatableError(ValueError):
    """The server answers 500."""


def answer(rows: Sequence[Row], request: Request) -> list[dict[str, object]]:
    """The *rows* that *request* selects, with the fields that it selects.

    Raises:
        UntranslatableError, NotKnownError: the request is not supported.
    """
    if request.key is not None:
        rows = [row for row in rows if row["id"] == request.key]
    return _rows(rows, request.options)


def _rows(rows: Sequence[Row], options: Options) -> list[dict[str, object]]:
    found = [row for row in rows if options.filter is None or _value(options.filter, {"": row}) is True]
    for order in reversed(options.order):
        found = _sorted(found, order)
    end = None if options.top is None else options.skip + options.top
    return [_shown(row, options) for row in found[options.skip : end]]


def _sorted(rows: Sequence[Row], order: Order) -> list[Row]:
    """Sort as PostgreSQL does: null is greater than everything."""
    keys = [_value(order.path, {"": row}) for row in rows]
    if any(isinstance(key, list) for key in keys):
        raise NotKnownError("$orderby of a relation")
    ranked = sorted(range(len(rows)), key=lambda place: _rank(keys[place]), reverse=order.descending)
    return [rows[place] for place in ranked]


def _rank(value: object) -> tuple[int, float, str]:
    if isinstance(value, bool | int | float):
        return 0, value, ""
    return (1, 0, "") if value is None else (0, 0, str(value))


def _shown(row: Row, options: Options) -> dict[str, object]:
    names = options.select
    if names is None:
        names = tuple(name for name, value in row.items() if not isinstance(value, list))
    shown = {name: _field(row, name) for name in names}
    for name, inner in options.expand.items():
        related = _field(row, name)
        if not isinstance(related, list):
            raise UntranslatableError(f"{name} relates to nothing")
        shown[name] = _rows(related, inner)
    return shown


def _value(expression: Expression, scope: Mapping[str, Row]) -> object:
    match expression:
        case Literal(value):
            return value
        case Path(names):
            return _of_path(names, scope)
        case Any(path, alias, condition, every):
            related = _of_path(path.names, scope)
            if not isinstance(related, list):
                raise UntranslatableError(f"{'/'.join(path.names)} relates to nothing")
            results = [_value(condition, {**scope, alias: row}) is True for row in related]
            return all(results) if every else any(results)
        case Call(method, arguments):
            return _called(method, [_value(one, scope) for one in arguments])
        case Operation(operator, left, right):
            return _operated(operator, _value(left, scope), _value(right, scope))
        case Not(inner):
            return _value(inner, scope) is not True
        case _:
            assert_never(expression)


def _of_path(names: tuple[str, ...], scope: Mapping[str, Row]) -> object:
    head, *rest = names
    value = _field(scope[head], rest.pop(0)) if head in scope and rest else _field(scope[""], head)
    if rest:
        raise NotKnownError(f"a path of several steps: {'/'.join(names)}")
    return value


def _field(row: Row, name: str) -> object:
    if name not in row:
        raise UntranslatableError(f"there is no {name}")
    return row[name]


def _called(method: str, values: Sequence[object]) -> object:
    texts = [str(value) for value in values]
    match method:
        case "startswith":
            return texts[0].startswith(texts[1])
        case "endswith":
            return texts[0].endswith(texts[1])
        case "contains":
            return texts[1] in texts[0]
        case "tolower":
            return texts[0].lower()
        case "toupper":
            return texts[0].upper()
        case "length":
            return len(texts[0])
        case _:
            raise NotKnownError(method)


def _operated(operator: str, left: object, right: object) -> object:
    for value in (left, right):
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_INTEGER:
            raise UntranslatableError(f"{value} is beyond an integer column")
    match operator:
        case "and":
            return left is True and right is True
        case "or":
            return left is True or right is True
        case "eq":
            return _equal(left, right)
        case "ne":
            return not _equal(left, right)
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        raise NotKnownError(f"{operator} of other things than numbers")
    return {"gt": left > right, "ge": left >= right, "lt": left < right, "le": left <= right}[operator]


def _equal(left: object, right: object) -> bool:
    """A relation to one row equals that row's id, which is what its column holds."""
    if isinstance(left, list):
        return any(row["id"] == right for row in left)
    return left == right
