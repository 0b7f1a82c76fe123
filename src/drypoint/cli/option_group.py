"""Groups of options, which a command receives as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeAlias

Command: TypeAlias = Callable[..., object]
Decorator: TypeAlias = Callable[[Command], Command]


def option_group(command: Command, name: str, kind: Callable[..., object], options: Iterable[Decorator]) -> Command:
    """*command* with *options*; it receives them in its parameter *name*, as a *kind*, which has a field for each."""
    # Importing it takes longer than all else that starting the program needs.
    from inspect import signature

    fields = tuple(signature(kind).parameters)

    @wraps(command)
    def grouped(**given: Any) -> object:
        return command(**{name: kind(**{field: given.pop(field) for field in fields})}, **given)

    decorated: Command = grouped
    # click lists options in the order of decorators in a source, which are applied from the last to the first.
    for decorate in reversed(tuple(options)):
        decorated = decorate(decorated)
    return decorated
