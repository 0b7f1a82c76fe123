"""Parsing a Docker engine's log, and finding records about images that it ignored.

Format: logrus' text formatter, ``time="…" level=… msg="…" key=value …``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PAIR = re.compile(r'([A-Za-z0-9_.()/-]+)=("(?:[^"\\]|\\.)*"|\S*)')
_ESCAPE = re.compile(r"\\(.)")
_GRAVE = frozenset({"warning", "error", "fatal", "panic"})
_ABOUT_STORE = re.compile(r"image|layer|overlay|cache.?id|chain.?id|digest|tar-?split|repositor|lower", re.IGNORECASE)
_QUIET = (
    # Debug level, though the layer and every image on it are lost: layer/layer_store.go and layer/filestore.go.
    re.compile(r"failed to load layer", re.IGNORECASE),
    re.compile(r"failed to load mount", re.IGNORECASE),
    re.compile(r"(?:ignoring|skipping) invalid digest", re.IGNORECASE),
    re.compile(r"orphan layer", re.IGNORECASE),
)
_HARMLESS = (
    # Logged if everything is in order.
    re.compile(r"^found 0 orphan layers$"),
    # The engine's containerd tries its snapshotters and logs those that this machine lacks.
    re.compile(r"snapshotter"),
)


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of the log; ``fields`` are the pairs other than time, level and message, in their order."""

    level: str
    message: str
    fields: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return " ".join([f"{self.level}: {self.message}", *(f"{key}={value}" for key, value in self.fields)])


def parse_log(text: str) -> tuple[LogRecord, ...]:
    """The records in *text*. A line of another form (a panic's stack trace) is a record of level ``fatal``."""
    return tuple(_parse_line(line) for line in text.splitlines() if line.strip())


def _parse_line(line: str) -> LogRecord:
    pairs = [(key, _unquote(value)) for key, value in _PAIR.findall(line)]
    named = dict(pairs)
    if "level" not in named or "msg" not in named:
        return LogRecord("fatal", line)
    rest = tuple((key, value) for key, value in pairs if key not in ("time", "level", "msg"))
    return LogRecord(named["level"], named["msg"], rest)


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value
    return _ESCAPE.sub(lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), value[1:-1])


def complaints(records: Iterable[LogRecord]) -> tuple[LogRecord, ...]:
    """The *records* about something in the store that was ignored or is damaged."""
    return tuple(record for record in records if _is_complaint(record))


def _is_complaint(record: LogRecord) -> bool:
    said = " ".join([record.message, *(value for _, value in record.fields)])
    if any(pattern.search(said) for pattern in _HARMLESS):
        return False
    if any(pattern.search(record.message) for pattern in _QUIET):
        return True
    return record.level in _GRAVE and _ABOUT_STORE.search(said) is not None
