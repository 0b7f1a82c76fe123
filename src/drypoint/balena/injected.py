"""The check of an apps.json from an archive, by the rules of the disk image's Supervisor, before it is written."""

from __future__ import annotations

from ..disk import Device
from ..injection.request import InjectRequest
from ..system import find_store
from ..volumes.partitioned_disk import PartitionedDisk
from ..volumes.target import DEFAULT_PARTITION
from .apps_json import ANY_VERSION, MAX_BYTES, read_apps_json
from .apps_json_images import AppsJsonImages
from .apps_supervisor import given_supervisor
from .compatibility import check_as_it_is
from .running_supervisor import RunningSupervisor, find_supervisor

_PATH = b"apps.json"


class AppsJsonCheck:
    """Refuses an apps.json for balenaOS's data partition that its Supervisor would ignore: a
    :class:`~drypoint.injection.file_check.FileCheck`.

    Args:
        supervisor: the Supervisor that reads it; None for the one that the disk image starts, if that is known.
    """

    paths = frozenset({_PATH})
    limit = MAX_BYTES

    def __init__(self, supervisor: RunningSupervisor | None = None) -> None:
        self._supervisor = supervisor

    def on(self, device: Device) -> AppsJsonCheck:
        """This check for the disk image *device*, whose Supervisor is looked up now.

        Raises:
            DiskImageError, StoreError: the store on it cannot be read.
        """
        return self if self._supervisor is not None else AppsJsonCheck(_supervisor_on(device))

    def check(self, label: str, path: bytes, content: bytes) -> None:
        """Check an apps.json for the file system called *label*.

        Raises:
            UsageError: the Supervisor would ignore it.
        """
        if label != DEFAULT_PARTITION or content.strip() in (b"", b"{}"):
            return
        what = f"the archive's {path.decode()}"
        apps = read_apps_json(content, what, ANY_VERSION)
        if self._supervisor is not None:
            check_as_it_is(apps, self._supervisor.version, what, self._supervisor.said_by)


def inject_request(
    *, overwrite_files: bool = False, shrink_to_fit: bool = False, supervisor_version: str | None = None
) -> InjectRequest:
    """What to do with an archive, with the checks of its apps.json, and of the images that the device will ask for.

    Args:
        overwrite_files, shrink_to_fit: as in :class:`~drypoint.InjectRequest`.
        supervisor_version: of the Supervisor that reads apps.json; None for the one that the disk image starts.

    Raises:
        UsageError: *supervisor_version* is not a version.
    """
    supervisor = given_supervisor(supervisor_version)
    return InjectRequest(
        overwrite_files=overwrite_files,
        shrink_to_fit=shrink_to_fit,
        required_images=AppsJsonImages(supervisor=supervisor),
        check=AppsJsonCheck(supervisor),
    )


def _supervisor_on(device: Device) -> RunningSupervisor | None:
    disk = PartitionedDisk(device)
    labelled = [
        one for one in disk.partitions if one.filesystem is not None and one.filesystem.label == DEFAULT_PARTITION
    ]
    data = [volume for volume in disk.volumes() if volume.filesystem.label == DEFAULT_PARTITION]
    if len(labelled) != 1 or not data:
        return None
    place = find_store(data[0], None)
    return None if place.obstacles else find_supervisor(device, data[0].reader(allow_dirty=True), place.data_root)
