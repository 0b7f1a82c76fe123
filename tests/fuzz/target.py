"""What a fuzz target is, and what one run of it must keep to."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from drypoint.errors import DrypointError

REGRESSIONS = Path(__file__).with_name("regressions")
_LONGEST_MESSAGE = 20_000


@dataclass(frozen=True, slots=True)
class Target:
    """One way in for hostile bytes.

    Attributes:
        run: takes one input. What it raises and *allowed* does not name is a finding.
        seeds: small valid inputs, made anew each time.
        covers: packages whose coverage leads the fuzzer.
        allowed: the errors that the code under test documents.
        tokens: words of the format, for the fuzzer's dictionary.
        longest: bytes of the longest input tried.
        megabytes: resident memory that one process may take.
        tools: programs without which the seeds cannot be made.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    covers: tuple[str, ...]
    allowed: tuple[type[Exception], ...] = (DrypointError,)
    tokens: tuple[bytes, ...] = ()
    longest: int = 4096
    megabytes: int = 1024
    tools: tuple[str, ...] = ()


class PropertyError(AssertionError):
    """The code under test raised nothing, but what it did breaks a promise."""


def examine(target: Target, data: bytes) -> None:
    """Run *target* on one input.

    Raises:
        PropertyError: threads or open files are left behind, or an error's message is endless or cannot be printed.
        Exception: whatever *target* raised and should not have.
    """
    threads, files = threading.active_count(), _open_files()
    try:
        target.run(data)
    except target.allowed as error:
        text = str(error)
        if len(text) > _LONGEST_MESSAGE:
            raise PropertyError(f"a message of {len(text)} characters: {text[:200]}") from error
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as why:
            raise PropertyError(f"a message that cannot be printed: {text[:200]!a}") from why
    if threading.active_count() > threads:
        raise PropertyError(f"threads are left behind: {threading.enumerate()}")
    if _open_files() > files:
        # What only waits for the garbage collector is held by a cycle, as a traceback can be.
        gc.collect()
        if _open_files() > files:
            raise PropertyError(f"{_open_files() - files} open files are left behind")


def regressions(target: Target) -> list[Path]:
    """The inputs that *target* failed on once."""
    return sorted((REGRESSIONS / target.name).glob("*"))


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
