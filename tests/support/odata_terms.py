"""An OData request as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Path:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """``path/any(alias:condition)``, or ``all``."""

    path: Path
    alias: str
    condition: Expression
    every: bool


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Not:
    inner: Expression


Expression: TypeAlias = Literal | Path | Any | Call | Operation | Not


@dataclass(frozen=True, slots=True)
class Order:
    path: Path
    descending: bool


@dataclass(frozen=True, slots=True)
class Options:
    """The query options of a resource; ``select`` None is everything."""

    select: tuple[str, ...] | None = None
    filter: Expression | None = None
    expand: Mapping[str, Options] = field(default_factory=dict)
    order: tuple[Order, ...] = ()
    top: int | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    resource: str
    key: str | int | float | None
    options: Options
