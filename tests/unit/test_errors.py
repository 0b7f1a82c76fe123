from __future__ import annotations

import drypoint.errors
from drypoint.errors import DrypointError


def tree() -> list[type[DrypointError]]:
    return [
        value
        for value in vars(drypoint.errors).values()
        if isinstance(value, type) and issubclass(value, DrypointError)
    ]


def test_exit_codes_tell_classes_apart() -> None:
    by_code: dict[int, list[str]] = {}
    for error in tree():
        by_code.setdefault(error.exit_code, []).append(error.__name__)
    shared = [names for names in by_code.values() if len(names) > 1]
    # A reference that is none is a slip in the command line like any other, and tools expect 2 for those.
    assert shared == [["UsageError", "InvalidReferenceError"]]


def test_every_class_owns_its_exit_code_and_says_what_it_means() -> None:
    for error in tree():
        assert "exit_code" in vars(error), error
        assert 0 < error.exit_code < 126, error  # the shell uses 126 and up
        assert error.__doc__, error
    docs = [error.__doc__ for error in tree()]
    assert len(set(docs)) == len(docs)
