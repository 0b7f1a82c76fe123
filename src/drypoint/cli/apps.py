"""Which apps.json goes into a disk image, and whether the device can do with it what it says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from ..balena.apps_json import ANY_VERSION, MAX_BYTES, AppsJson, read_apps_json
from ..balena.architecture import NeededArchitecture, check_architecture
from ..balena.boot import read_config
from ..balena.boot_config import CONFIG_FILE, other_fleet_warning, plain_http_warning
from ..balena.device_type import DeviceType
from ..balena.first_boot import pinning_warning
from ..balena.os_root import read_supervisor_conf
from ..balena.running_supervisor import RunningSupervisor, find_supervisor, supervisor_by
from ..balena.supervisor_image import REPOSITORY
from ..balena.supervisor_version import SupervisorVersion, parse_supervisor_version
from ..disk import Device, Window, read_table
from ..disk.ext4.read.reader import Ext4Reader
from ..errors import FilesystemError, StoreError, UsageError
from ..jobs.request import CheckImages
from ..oci import Image
from ..progress import Progress
from ..sources.registry import RegistryOptions, TokenProvider
from ..stores.overlay2 import StoreState
from ..system import find_store
from ..volumes.fat_files import FatFile
from ..volumes.inner_image import target_disk
from ..volumes.repair import find_data_partition
from ..volumes.target import Target
from . import render
from .cloud_options import CloudInputs, cloud_states
from .files import read_file
from .option_group import Command


class WantedApps(msgspec.Struct, frozen=True):
    """What is asked for, before the disk image is looked at.

    Attributes:
        apps: None if only images are asked for.
        needs: what the fleets are built for.
        token_provider: for the registries that the images are in.
    """

    apps: AppsJson | None
    needs: tuple[NeededArchitecture, ...]
    token_provider: TokenProvider


@contextmanager
def wanted_apps(
    files: Sequence[Path], cloud: CloudInputs, options: RegistryOptions, progress: Progress
) -> Iterator[WantedApps]:
    """What *files* and *cloud* come to; the token provider serves as long as the block lasts.

    Raises:
        UsageError, SourceError, OutputError: see :func:`.cloud_states`.
    """
    read = [(str(path), read_apps_json(read_file(path, MAX_BYTES), str(path), ANY_VERSION)) for path in files]
    with cloud_states(cloud, options, read, progress) as found:
        for note in found.notes:
            progress.note(note)
        if found.apps is not None and not found.apps.services:
            render.warning("apps.json names no service, so it adds no image")
        yield WantedApps(found.apps, found.needs, found.token_provider)


def supervisor_version_option(function: Command) -> Command:
    """--supervisor-version, for commands that look at a finished apps.json."""
    return click.option(
        "--supervisor-version",
        metavar="VERSION",
        help="The Supervisor that reads apps.json. Default: the one that the disk image starts.",
    )(function)


def given_supervisor(version: str | None) -> RunningSupervisor | None:
    """What --supervisor-version means.

    Raises:
        UsageError: *version* is not a version.
    """
    return None if version is None else RunningSupervisor(parse_supervisor_version(version), "--supervisor-version")


def supervisor_of(
    given: str | None, base: Device | None, target: Target, known: StoreState | None, *, comes: bool
) -> RunningSupervisor:
    """The Supervisor that reads apps.json: the one that is *given*, or else the one that *base* starts.

    Args:
        known: the store on a base that cannot be read, if it was read before.
        comes: whether the one that is given is put in.

    Raises:
        UsageError: what is given is not a version; or nothing is given, and it is not known.
        DiskImageError, StoreError: the store cannot be read.
    """
    found = _supervisor_on(base, target, given) if known is None else supervisor_by(None, known.repositories)
    looked = base is not None or known is not None
    if given is None:
        if not looked:
            raise UsageError(
                "the Supervisor that reads apps.json is not known, because the disk image cannot be read before it is passed "
                "on: give --base-manifest FILE or --supervisor-version VERSION"
            )
        if found is None:
            raise UsageError(
                "the version of the Supervisor on the disk image is not known, and so not which version of apps.json it reads: "
                f"its root file system has no supervisor.conf, no tag {REPOSITORY}:VERSION is in its store, and no "
                "image has that label. "
                "Give it with --supervisor-version (on a device, balena-engine images shows it)"
            )
        if found.note:
            render.warning(f"{found.note}; apps.json is written for Supervisor {found.version}")
        return found
    version = parse_supervisor_version(given)
    if looked:
        _warn_of_other_supervisor(version, found, comes=comes)
    return RunningSupervisor(version, "its image's tag" if comes else "--supervisor-version")


def _supervisor_on(base: Device | None, target: Target, given: str | None) -> RunningSupervisor | None:
    if base is None:
        return None
    disk = target_disk(base, target)
    partition = find_data_partition(disk, target).partition
    # Whether it was unmounted cleanly is reported when the images are planned.
    try:
        place = find_store(disk, read_table(disk), partition.number, target.data_root)
        # What keeps the engine from the store is an error when the images are planned.
        reader = Ext4Reader(Window(disk, partition.start, partition.size), allow_dirty=True)
        return None if place.obstacles else find_supervisor(disk, reader, place.data_root)
    except (FilesystemError, StoreError) as error:
        # Damage is an error when the images are planned, or repaired before (--fsck). Until then supervisor.conf has to do.
        found = supervisor_by(read_supervisor_conf(disk), {})
        if found is None and given is None:
            raise FilesystemError(
                f"{error}. So it is not known which Supervisor reads apps.json; give its version with --supervisor-version"
            ) from error
        return found or given_supervisor(given)


def architecture_check(device_type: DeviceType | None, needs: Sequence[NeededArchitecture]) -> CheckImages:
    """Check that the device runs the fleets' images: the fleets at once, the images when they are known.

    Raises:
        UsageError: the device does not run what the fleets are built for.
    """
    check_architecture(device_type, needs)

    def check(images: Sequence[Image]) -> None:
        check_architecture(device_type, (), images)

    return check


def _warn_of_other_supervisor(given: SupervisorVersion, found: RunningSupervisor | None, *, comes: bool) -> None:
    """Warn that the Supervisor that apps.json is written for is not the one that the disk image starts.

    Args:
        comes: whether the former is put in.
    """
    if found is None and not comes:
        render.warning(
            f"no Supervisor found on the disk image: apps.json is written for Supervisor {given} (--supervisor-version), but "
            "without a Supervisor nothing starts the services; --supervisor-image preloads one"
        )
    if found is not None and found.version != given:
        render.warning(
            f"the disk image has Supervisor {found.version} ({found.said_by}), but apps.json is written for {given} "
            "(--supervisor-version); which of the two starts depends on the operating system on the disk image"
        )


def coming_config(base: Device | None, fat_files: Iterable[FatFile]) -> bytes | None:
    """The config.json that the device will boot with, the new or the one there; None if there is none, or it is not known."""
    coming = next((file.content for file in fat_files if file.path == CONFIG_FILE), None)
    return coming if coming is not None or base is None else read_config(base)


def warn_of_first_boot(apps: AppsJson, config: bytes | None) -> None:
    """Warn when *config* joins another fleet than the preloaded one, and when nothing is pinned."""
    for warning in (other_fleet_warning(config, apps), pinning_warning(apps)):
        if warning is not None:
            render.warning(warning)


def warn_of_plain_http(base: Device | None, fat_files: Iterable[FatFile], *, has_apps: bool) -> None:
    """Warn when the device's server is named by plain http: in a config.json that is written, or is there when apps are."""
    files = tuple(fat_files)
    if not has_apps and not any(file.path == CONFIG_FILE for file in files):
        return
    warning = plain_http_warning(coming_config(base, files))
    if warning is not None:
        render.warning(warning)
