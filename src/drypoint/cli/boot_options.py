"""The options that change the boot partition.

balena-cli has them in other places: --config and --system-connection with ``os configure``, KEY VALUE with ``config write``, a
file with ``config inject``, --splash-image with ``preload``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .files import read_file
from .option_group import Command, option_group

if TYPE_CHECKING:
    from ..disk import Device
    from ..volumes.fat_files import FatFile


@dataclass(frozen=True, slots=True)
class BootInputs:
    """The options as they were given."""

    config: Path | None = None
    settings: tuple[str, ...] = field(default=(), repr=False)
    splash_image: Path | None = None
    network_connections: tuple[Path, ...] = ()
    static_ip: str | None = None

    @property
    def is_empty(self) -> bool:
        return self == BootInputs()


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
    return option_group(function, "boot", BootInputs, options)


def boot_files(inputs: BootInputs, device: Device, *, os_version: str | None = None) -> tuple[FatFile, ...]:
    """The files that *inputs* write to the boot partition of the disk image *device*, which is only read.

    Args:
        os_version: of the disk image, if it is known.

    Raises:
        UsageError: a file cannot be read or is not what it should be, or the options contradict each other.
        DiskImageError: there is no boot partition with an undamaged FAT file system, or its config.json is not one.
        ToolError: mtools is missing.
    """
    if inputs.is_empty:
        return ()
    from ..balena.boot import BootWishes, boot_partition_files
    from ..balena.boot_config import MAX_CONFIG_BYTES, check_config, parse_setting
    from ..balena.network import MAX_CONNECTION_BYTES, read_connection, static_ip_connection
    from ..balena.splash import MAX_SPLASH_BYTES, check_png

    config, splash = inputs.config, inputs.splash_image
    connections = [
        read_connection(path.name, read_file(path, MAX_CONNECTION_BYTES), str(path))
        for path in inputs.network_connections
    ]
    if inputs.static_ip is not None:
        connections.append(static_ip_connection(inputs.static_ip))
    wishes = BootWishes(
        config=check_config(read_file(config, MAX_CONFIG_BYTES), str(config)) if config is not None else None,
        settings=tuple(parse_setting(text) for text in inputs.settings),
        splash_image=check_png(read_file(splash, MAX_SPLASH_BYTES), str(splash)) if splash is not None else None,
        connections=tuple(connections),
    )
    return boot_partition_files(device, wishes, os_version=os_version)
