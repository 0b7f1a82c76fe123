"""The program: its commands, imported when they run, and how it exits."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from contextlib import suppress

import click

from ..errors import DrypointError, ResourceError
from ..lanes import STATE
from ..version import __version__
from . import KILLED_BY, render
from .encoding import print_in_any_encoding
from .ending import Terminated, terminable

COMMANDS = {
    "preload": "put images into a disk image",
    "plan": "show what a preload would do; write nothing",
    "pack": "write a disk image and what goes into it as an archive, in one pass",
    "inject": "make a disk image from such an archive, in one pass",
    "inspect": "show what a disk image holds",
    "verify": "read a finished disk image back and check it",
    "restore": "restore a disk image that a killed run left half changed",
    "clean": "remove unfinished files of killed runs",
    "supervisor-image": "print the image of a version of the balena Supervisor",
    "demo": "preload and verify sample data, without a network",
}
"""The commands in the order of the help text, each a module of this package with a ``command``."""
_MOST_WORDS = 500


class _LazyGroup(click.Group):
    """Imports a command's module only when the command runs or shows its help, so that the program starts quickly."""

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
@click.version_option(__version__, prog_name="drypoint", message=f"%(prog)s %(version)s ({STATE})")
def cli() -> None:
    """Put container images into a disk image, so that a device boots with its application already there.

    No engine, no root, no loop device: the files that Docker or balenaEngine would have written are written straight into
    the disk image's ext4 partition.
    """


def run(arguments: list[str] | None = None) -> None:
    """Run the program and exit with its status: 0, a click status for wrong usage, the error class's own, or 128 + signal."""
    _open_standard_streams()
    print_in_any_encoding()
    try:
        with terminable():
            status = cli.main(arguments, prog_name="drypoint", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Terminated as end:
        how = "interrupted" if end.number == signal.SIGINT else "terminated"
        _report(f"{how}; nothing unfinished was left behind")
        sys.exit(KILLED_BY + end.number)
    except DrypointError as error:
        _report(str(error), error)
        sys.exit(error.exit_code)
    except OSError as error:
        # A fault of the machine: standard output on a full disk, a closed terminal.
        _report(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error), error)
        _forget_output()
        sys.exit(DrypointError.exit_code)
    except MemoryError as error:
        _report("there is not enough memory", error)
        sys.exit(ResourceError.exit_code)
    except Exception as error:  # noqa: BLE001 - the last place: a fault of the program itself
        _report(
            f"this is a fault of drypoint: {type(error).__name__}: {str(error)[:_MOST_WORDS]}. Nothing unfinished was left "
            "behind. Please report it, with what the same command prints with -vv",
            error,
        )
        sys.exit(DrypointError.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


def _open_standard_streams() -> None:
    """Open /dev/null as standard input, output or error where the caller closed it.

    Otherwise the next file opened, maybe a disk image, gets that number, and whatever prints, libraries and child processes
    too, prints into it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # open() takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    # Python sets those to None that it found closed.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the program runs
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _forget_output() -> None:
    """Drop what could not be written: Python would write it again at exit, and exit with a status of its own if that fails."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _report(text: str, error: BaseException | None = None) -> None:
    # Standard error may be what is broken; the exit status is left.
    with suppress(OSError):
        render.failure(text, error)
