"""Prints docs/reference/cli.md, made from the program's help. ``make docs`` writes the file; a test compares it."""

from __future__ import annotations

import click

from drypoint.cli.app import COMMANDS, cli

_WIDTH = 100
_HEADER = """\
# The command line

Made from the program's own help by `make docs`; do not edit.
"""


def reference() -> str:
    """The whole page."""
    parts = [_HEADER, _section("drypoint", cli, None)]
    context = _context("drypoint", cli, None)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is None:
            raise LookupError(name)
        parts.append(_section(f"drypoint {name}", command, context))
    return "\n".join(parts)


def _context(path: str, command: click.Command, parent: click.Context | None) -> click.Context:
    name = path.rpartition(" ")[2]
    return click.Context(command, info_name=name, parent=parent, terminal_width=_WIDTH, max_content_width=_WIDTH)


def _section(path: str, command: click.Command, parent: click.Context | None) -> str:
    context = _context(path, command, parent)
    context.help_option_names = cli.context_settings["help_option_names"]
    return f"## {path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


if __name__ == "__main__":
    print(reference(), end="")
