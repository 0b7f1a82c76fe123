"""--supervisor-version, for commands that look at a finished apps.json."""

from __future__ import annotations

import click

from .option_group import Command


def supervisor_version_option(function: Command) -> Command:
    """--supervisor-version, for commands that look at a finished apps.json."""
    return click.option(
        "--supervisor-version",
        metavar="VERSION",
        help="The Supervisor that reads apps.json. Default: the one that the disk image starts.",
    )(function)
