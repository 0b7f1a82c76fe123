"""Finding the Supervisor that apps.json is written for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..disk import Device
from ..errors import FilesystemError, StoreError, UsageError
from ..stores import StoreContents
from ..system import find_store
from ..volumes.partitioned_disk import open_disk
from ..volumes.target import Target
from .os_root import read_supervisor_conf
from .running_supervisor import RunningSupervisor, find_supervisor, supervisor_by
from .supervisor_image import REPOSITORY
from .supervisor_version import SupervisorVersion, parse_supervisor_version

Warn: TypeAlias = Callable[[str], None]
"""Takes a warning, a sentence."""


def supervisor_of(
    given: str | None, base: Device | None, target: Target, known: StoreContents | None, warn: Warn, *, comes: bool
) -> RunningSupervisor:
    """The Supervisor that reads apps.json: the *given* version, or else the one that *base* starts.

    Args:
        known: the store of a base that cannot be read, if its manifest has it.
        warn: gets each warning, a sentence.
        comes: whether the given Supervisor is preloaded.

    Raises:
        UsageError: *given* is not a version; or it is None, and the version is unknown.
        DiskImageError, StoreError: the store cannot be read.
    """
    found = _supervisor_on(base, target, given) if known is None else supervisor_by(None, known.names)
    looked = base is not None or known is not None
    if given is None:
        if not looked:
            raise UsageError(
                "the Supervisor that reads apps.json is not known, because the disk image cannot be read before it is passed "
                "on: give --base-manifest FILE or --supervisor-version VERSION"
            )
        if found is None:
            raise UsageError(
                "the version of the Supervisor on the disk image is not known, and with it the version of apps.json to write: "
                f"its root file system has no supervisor.conf, no tag {REPOSITORY}:VERSION is in its store, and no "
                "image has that label. "
                "Give it with --supervisor-version (on a device, balena-engine images shows it)"
            )
        if found.note:
            warn(f"{found.note}; apps.json is written for Supervisor {found.version}")
        return found
    version = parse_supervisor_version(given)
    if looked:
        _warn_of_other_supervisor(version, found, warn, comes=comes)
    return RunningSupervisor(version, "its image's tag" if comes else "--supervisor-version")


def _supervisor_on(base: Device | None, target: Target, given: str | None) -> RunningSupervisor | None:
    if base is None:
        return None
    volume = open_disk(base, target.container).volume(target.partition)
    disk = volume.disk.device
    # The plan refuses a file system that was not unmounted cleanly.
    try:
        place = find_store(volume, target.data_root)
        # The plan refuses a store that the engine does not use.
        reader = volume.reader(allow_dirty=True)
        return None if place.obstacles else find_supervisor(disk, reader, place.data_root)
    except (FilesystemError, StoreError) as error:
        # The plan refuses damage, or it is repaired first (--fsck). Until then only supervisor.conf is used.
        found = supervisor_by(read_supervisor_conf(disk), {})
        if found is None and given is None:
            raise FilesystemError(
                f"{error}. So it is not known which Supervisor reads apps.json; give its version with --supervisor-version"
            ) from error
        return found or given_supervisor(given)


def given_supervisor(version: str | None) -> RunningSupervisor | None:
    """The Supervisor of --supervisor-version.

    Raises:
        UsageError: *version* is not a version.
    """
    return None if version is None else RunningSupervisor(parse_supervisor_version(version), "--supervisor-version")


def _warn_of_other_supervisor(
    given: SupervisorVersion, found: RunningSupervisor | None, warn: Warn, *, comes: bool
) -> None:
    """Warn if the Supervisor that apps.json is written for is not the one that the disk image starts.

    Args:
        comes: whether the former is preloaded.
    """
    if found is None and not comes:
        warn(
            f"no Supervisor found on the disk image: apps.json is written for Supervisor {given} (--supervisor-version), but "
            "without a Supervisor nothing starts the services; --supervisor-image preloads one"
        )
    if found is not None and found.version != given:
        warn(
            f"the disk image has Supervisor {found.version} ({found.said_by}), but apps.json is written for {given} "
            "(--supervisor-version); which of the two starts depends on the operating system on the disk image"
        )
