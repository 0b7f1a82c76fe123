"""A request for changes of the boot partition, and the files to write for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..disk import Device
    from ..volumes.fat_files import FatFile


@dataclass(frozen=True, slots=True)
class BootRequest:
    """Changes of the boot partition.

    Attributes:
        config: a config.json that replaces the existing one.
        settings: KEY=VALUE each, set in config.json; VALUE is JSON or else text.
        splash_image: a PNG.
        network_connections: NetworkManager connection profiles, written under their file names.
        static_ip: ADDRESS/PREFIX[,GATEWAY] for ethernet.
    """

    config: Path | None = None
    settings: tuple[str, ...] = field(default=(), repr=False)
    splash_image: Path | None = None
    network_connections: tuple[Path, ...] = ()
    static_ip: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The paths of all files that it reads."""
        given = (self.config, self.splash_image, *self.network_connections)
        return tuple(path for path in given if path is not None)

    @property
    def is_empty(self) -> bool:
        return self == BootRequest()


def boot_files(request: BootRequest, device: Device, *, os_version: str | None = None) -> tuple[FatFile, ...]:
    """The files to write for *request* to the boot partition of the disk image *device*, which is only read.

    Args:
        os_version: of the disk image, if known.

    Raises:
        UsageError: a file cannot be read or is malformed, or the options contradict each other.
        DiskImageError: there is no boot partition with an undamaged FAT file system, or its config.json is malformed.
        ToolError: mtools is missing.
    """
    if request.is_empty:
        return ()
    # Imported late: a job without changes of the boot partition does not need it.
    from ..disk.host.input_files import read_file
    from .boot import BootChanges, boot_partition_files
    from .boot_config import MAX_CONFIG_BYTES, check_config, parse_setting
    from .network import MAX_CONNECTION_BYTES, read_connection, static_ip_connection
    from .splash import MAX_SPLASH_BYTES, check_png

    config, splash = request.config, request.splash_image
    connections = [
        read_connection(path.name, read_file(path, MAX_CONNECTION_BYTES), str(path))
        for path in request.network_connections
    ]
    if request.static_ip is not None:
        connections.append(static_ip_connection(request.static_ip))
    changes = BootChanges(
        config=check_config(read_file(config, MAX_CONFIG_BYTES), str(config)) if config is not None else None,
        settings=tuple(parse_setting(text) for text in request.settings),
        splash_image=check_png(read_file(splash, MAX_SPLASH_BYTES), str(splash)) if splash is not None else None,
        connections=tuple(connections),
    )
    return boot_partition_files(device, changes, os_version=os_version)
