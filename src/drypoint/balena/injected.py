"""The check of an apps.json from an archive, by the rules of the disk image's Supervisor, before it is written."""

from __future__ import annotations

from ..disk import Device, Window, find_partition, probe_partitions, read_table
from ..disk.ext4.read.reader import Ext4Reader
from ..system import find_store
from ..volumes.target import DEFAULT_PARTITION
from .apps_json import ANY_VERSION, MAX_BYTES, read_apps_json
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


def _supervisor_on(device: Device) -> RunningSupervisor | None:
    table = read_table(device)
    labels = [one.filesystem.label for one in probe_partitions(device, table) if one.filesystem is not None]
    if labels.count(DEFAULT_PARTITION) != 1:
        return None
    found = find_partition(device, table, DEFAULT_PARTITION)
    if found.filesystem is None or not found.filesystem.kind.is_ext:
        return None
    reader = Ext4Reader(Window(device, found.partition.start, found.partition.size), allow_dirty=True)
    place = find_store(device, table, found.partition.number, None)
    return None if place.obstacles else find_supervisor(device, reader, place.data_root)
