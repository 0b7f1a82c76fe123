"""The program: its commands, loaded when they are called, and what becomes of an error."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from contextlib import suppress

import click

from ..errors import DrypointError
from ..version import __version__
from . import render
from .ending import Terminated, terminable

COMMANDS = {
    "preload": "put images into a disk image",
    "plan": "say what a preload would do, and write nothing",
    "pack": "write an archive of a disk image and what goes into it, as a stream",
    "inject": "make a disk image of such an archive, while it comes",
    "inspect": "show what a disk image holds",
    "verify": "read a finished disk image back and prove it",
    "supervisor-image": "tell which image a version of the balena Supervisor is",
    "demo": "the whole job on sample data, no network",
}
"""The commands in the order of the help text, each a module of this package with a ``command``."""
_KILLED_BY = 128
"""What shells add to a signal's number."""


class _LazyGroup(click.Group):
    """Imports a command's module only when that command runs or is asked for help, so that starting stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f".{cmd_name.replace('-', '_')}", __package__).command
        if not isinstance(command, click.Command):
            raise TypeError(f"the module of {cmd_name} has no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has its own --help, with examples.",
)
@click.version_option(__version__, prog_name="drypoint", message="%(prog)s %(version)s")
def cli() -> None:
    """Put container images into a disk image, so that a device boots with its application already there.

    No engine, no root, no loop device: the files that Docker or balenaEngine would have written are written straight into
    the disk image's ext4 partition.
    """


def run(arguments: list[str] | None = None) -> None:
    """Run the program and exit with its status: 0, a click status for wrong usage, the error class's own, or 128 + signal."""
    _open_standard_streams()
    try:
        with terminable():
            status = cli.main(arguments, prog_name="drypoint", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Terminated as end:
        how = "interrupted" if end.number == signal.SIGINT else "terminated"
        _tell(f"{how}; nothing unfinished was left behind")
        sys.exit(_KILLED_BY + end.number)
    except DrypointError as error:
        _tell(str(error), error)
        sys.exit(error.exit_code)
    except OSError as error:
        # The machine's own trouble: standard output on a disk that is full, a terminal that is gone.
        _tell(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error), error)
        _forget_output()
        sys.exit(DrypointError.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


def _open_standard_streams() -> None:
    """Open to nothing what the caller closed of standard input, output and error.

    The next files opened would take their numbers otherwise, disk images among them, and everything that prints, libraries
    and child processes, would print into those.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)
    # Python has None for those that it found closed.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the program runs
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _forget_output() -> None:
    """Let what could not be written be lost: Python would try once more when it ends, and have a status of its own for that."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _tell(text: str, error: BaseException | None = None) -> None:
    # Standard error may be what is broken; the exit status tells then.
    with suppress(OSError):
        render.failure(text, error)
