"""Verification of a disk image, with the applications that its Supervisor starts."""

from __future__ import annotations

from pathlib import Path

from ..disk.host.input_files import read_file
from ..progress import SILENT, Progress
from ..verification import Report, verify
from ..volumes.target import DEFAULT_PARTITION
from .apps_json import ANY_VERSION, MAX_BYTES, read_apps_json
from .apps_json_images import AppsJsonImages
from .apps_supervisor import given_supervisor
from .compatibility import fit
from .flasher import installed_image


def verify_balena(
    image: Path,
    *,
    partition: str | int = DEFAULT_PARTITION,
    data_root: bytes | None = None,
    apps_json: Path | None = None,
    supervisor_version: str | None = None,
    processes: int = 1,
    progress: Progress = SILENT,
) -> Report:
    """Verify the disk image *image* as :func:`~drypoint.verify` does, and that the Supervisor finds all images of apps.json.

    In a flasher, the disk image that it installs is checked too, unless *partition* is another one than the default.

    Args:
        apps_json: a file with a target state; None for the one in the partition, if any.
        supervisor_version: of the Supervisor that reads it; None for the one that the disk image starts.

    Raises:
        UsageError: the version is not one, or that Supervisor does not take *apps_json*.
        ContentError: *apps_json* is malformed.
        DrypointError: as :func:`~drypoint.verify`.
    """
    supervisor = given_supervisor(supervisor_version)
    apps = None if apps_json is None else read_apps_json(read_file(apps_json, MAX_BYTES), str(apps_json), ANY_VERSION)
    if apps is not None and supervisor is not None:
        fit(apps, supervisor.version, str(apps_json), supervisor.said_by)
    return verify(
        image,
        partition=partition,
        data_root=data_root,
        required_images=AppsJsonImages(apps, supervisor),
        # As for preload: another partition than the default is one of the disk image itself.
        container=installed_image if partition == DEFAULT_PARTITION else None,
        processes=processes,
        progress=progress,
    )
