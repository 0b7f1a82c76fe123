"""The program's output. Results go to standard output; progress, notes and errors to standard error.

Text may come from a disk image or a registry: what could steer a terminal is shown as an escape instead.
Progress is a bar on a terminal and plain lines, few of them, anywhere else. rich is only loaded for the bar: it takes
longer to import than the rest of the program.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import msgspec

from ..progress import SILENT, Progress, Step, human_size
from ..text import printable
from .option_group import Command, option_group

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_PLAIN_INTERVAL = 10.0
_LINES = "\n"
_show_tracebacks = False


class Verbosity(msgspec.Struct, frozen=True):
    """How much a command prints.

    Attributes:
        quiet: errors only.
        verbose: 0 to 2; from 1 on also the library's log.
    """

    quiet: bool
    verbose: int

    @property
    def is_verbose(self) -> bool:
        return self.verbose > 0


def output_options(function: Command) -> Command:
    """The options -q and -v, which every command has, given to it together, as ``verbosity``; the log is set up."""
    options = [
        click.option("-q", "--quiet", is_flag=True, help="No progress and no summary; errors only."),
        click.option("-v", "--verbose", count=True, help="Show more; given twice, also a traceback with an error."),
    ]
    return option_group(function, "verbosity", _set_up, options)


def _set_up(quiet: bool, verbose: int) -> Verbosity:
    """Send the library's log to standard error, at the level of *verbose*."""
    global _show_tracebacks
    _show_tracebacks = verbose >= 2
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # The transport's own log shows whole URLs, and signed ones are credentials; of a malformed header it shows a traceback.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    return Verbosity(quiet, verbose)


def line(text: str = "") -> None:
    """One line of the result, or several with newlines between them."""
    click.echo(printable(text, _LINES))


def json(document: object) -> None:
    """One JSON object, the whole of a command's result; in UTF-8, as JSON has to be, whatever the encoding of the output."""
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))


def warning(text: str) -> None:
    """A warning; the program continues."""
    click.echo(f"warning: {printable(text, _LINES)}", err=True)


def failure(text: str, error: BaseException | None = None) -> None:
    """An error."""
    if error is not None and _show_tracebacks:
        click.echo("".join(traceback.format_exception(error)), err=True)
    click.echo(f"drypoint: {printable(text, _LINES)}", err=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> None:
    """A plain table; the columns numbered in *right* are aligned to the right."""
    shown = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(header))]
    for row in shown:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def width() -> int | None:
    """Columns of the terminal that results go to; None if they go elsewhere and are not shortened."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def size(amount: int) -> str:
    """*amount* bytes as text: ``1.5 GiB``."""
    return human_size(amount)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Show progress on standard error while the block runs."""
    if quiet:
        yield SILENT
    elif sys.stderr.isatty():
        with _bars() as bars:
            yield _BarProgress(bars)
    else:
        yield _PlainProgress()


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _BarProgress:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    def begin(self, what: str, total: int | None = None) -> Step:
        return _BarStep(self._bars, self._bars.add_task(what, total=total))

    def note(self, text: str) -> None:
        self._bars.console.print(printable(text, _LINES), markup=False, highlight=False)


class _BarStep:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: int) -> None:
        self._bars.advance(self._task, amount)

    def end(self) -> None:
        self._bars.remove_task(self._task)


class _PlainProgress:
    def begin(self, what: str, total: int | None = None) -> Step:
        click.echo(f"{what}{f' ({size(total)})' if total else ''}", err=True)
        return _PlainStep(what, total)

    def note(self, text: str) -> None:
        click.echo(printable(text, _LINES), err=True)


class _PlainStep:
    """Prints a line every ten seconds, for logs."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._last < _PLAIN_INTERVAL:
                return
            self._last = now
            of_total = f" of {size(self._total)}" if self._total else ""
        click.echo(f"{self._what}: {size(self._done)}{of_total}", err=True)

    def end(self) -> None:
        return
