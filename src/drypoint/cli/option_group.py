"""Options that commands take together, and get as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeAlias

Command: TypeAlias = Callable[..., object]
Decorator: TypeAlias = Callable[[Command], Command]


def option_group(command: Command, name: str, kind: Callable[..., object], options: Iterable[Decorator]) -> Command:
    """*command* with *options*, which come to it in its parameter *name*, as a *kind*: that has a field for each of them."""
    # It takes longer to import than what the program needs to start.
    from inspect import signature

    fields = tuple(signature(kind).parameters)

    @wraps(command)
    def grouped(**given: Any) -> object:
        return command(**{name: kind(**{field: given.pop(field) for field in fields})}, **given)

    decorated: Command = grouped
    # click lists the options in the order in which decorators stand in a source, from the last to the first.
    for decorate in reversed(tuple(options)):
        decorated = decorate(decorated)
    return decorated
