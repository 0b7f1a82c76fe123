"""The program: its commands, loaded when they are called, and what becomes of an error."""

from __future__ import annotations

import importlib
import signal
import sys
from types import FrameType

import click

from .. import __version__
from ..errors import DrypointError
from . import render

COMMANDS = {
    "preload": "put images into a disk image",
    "plan": "say what a preload would do, and write nothing",
    "verify": "read a finished disk image back and prove it",
    "demo": "the whole job on sample data, no network",
}
"""The commands in the order of the help text, each a module of this package with a ``command``."""
_KILLED_BY = 128
"""What shells add to a signal's number."""


class _Terminated(BaseException):
    """SIGTERM came; unwinds like KeyboardInterrupt, and like it is no Exception that anyone may swallow."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


class _LazyGroup(click.Group):
    """Imports a command's module only when that command runs or is asked for help, so that starting stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f".{cmd_name}", __package__).command
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
    # A service manager's way to say Ctrl-C: the same unwinding, so that nothing is left behind.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = cli.main(arguments, prog_name="drypoint", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except _Terminated:
        render.failure("terminated; nothing was left behind")
        sys.exit(_KILLED_BY + signal.SIGTERM)
    except (KeyboardInterrupt, click.exceptions.Abort):
        render.failure("interrupted; nothing was left behind")
        sys.exit(_KILLED_BY + signal.SIGINT)
    except DrypointError as error:
        render.failure(str(error), error)
        sys.exit(error.exit_code)
    sys.exit(status if isinstance(status, int) else 0)
