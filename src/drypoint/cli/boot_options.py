"""The options that change the boot partition.

balena-cli has them in other places: --config and --system-connection with ``os configure``, KEY VALUE with ``config write``, a
file with ``config inject``, --splash-image with ``preload``.
"""

from __future__ import annotations

from pathlib import Path

import click

from ..balena.boot_request import BootRequest
from .option_group import Command, option_group


def boot_options(function: Command) -> Command:
    """The options, given to *function* together, as ``boot``."""
    options = [
        click.option(
            "--config", type=click.Path(path_type=Path), metavar="FILE",
            help="A config.json that replaces the one in the boot partition.",
        ),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE",
            help="Set a key in config.json. VALUE is JSON (a number, true, false, null, an object, a list, a quoted string) or "
            "else text. A.B=VALUE sets B in the object A. May be repeated.",
        ),
        click.option(
            "--splash-image", type=click.Path(path_type=Path), metavar="FILE",
            help="A PNG image to show while the device boots.",
        ),
        click.option(
            "--network-connection", "--system-connection", "network_connections", multiple=True,
            type=click.Path(path_type=Path), metavar="FILE",
            help="A NetworkManager connection profile (a keyfile), written to system-connections/ under its file name. May be "
            "repeated.",
        ),
        click.option(
            "--static-ip", metavar="ADDRESS/PREFIX[,GATEWAY]",
            help="A static IPv4 address for the device's ethernet, for example 10.0.0.1/24, to reach it over a cable. Without "
            "a gateway it has no route to the internet.",
        ),
    ]  # fmt: skip
    return option_group(function, "boot", BootRequest, options)
