"""A balena user's request as one value."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..errors import UsageError
from ..limits import DEFAULT_LIMITS, Limits
from ..oci import Platform
from ..sizing.layer_index import LayerIndex
from ..volumes.target import DEFAULT_PARTITION
from .boot_request import BootRequest
from .cloud_states import CloudServer

DEFAULT_PLATFORM = "linux/amd64"
"""The platform if neither the user nor the disk image names one."""


class BalenaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fleets, a device, files and images to preload, in the words of a balena user.

    :func:`~drypoint.preload_request` converts it to a :class:`~drypoint.PreloadRequest`.

    Attributes:
        fleets: slugs, uuids or ids: the target state of each is preloaded.
        commit: the release of the fleet: a commit or its first digits, ``current`` (the default) or ``latest``.
        device: the uuid of a registered device, whose target state is preloaded instead of a fleet's.
        pin_device: whether the device stays at the preloaded release; None leaves *apps_json* as it is, and does not pin to a
            fleet's release.
        apps_json: files with a balena target state, of version 2 or 3.
        images: registry references, ``oci:PATH[:IMAGE]`` or ``docker-archive:PATH[:IMAGE]``.
        compose: a Compose file, whose services' images are preloaded.
        supervisor_image: the Supervisor to preload, written as in *images*.
        supervisor_version: the version of *supervisor_image*, or of the Supervisor that reads apps.json; None takes the version
            of that image, or else of the Supervisor that the disk image starts.
        boot: changes of the boot partition.
        replace: whether the images of the earlier release are removed.
        check_architecture: whether the disk image's device type must be able to run the fleets' images.
        save_apps_json: a file to write the apps.json to as well.
        server: the API server, and the login.
        platform: chooses the image of a multi-platform image; None: that of the disk image's device type, else linux/amd64.
        data_partition: the partition with the engine's store, by file-system label, GPT name or number.
        data_root: the engine's data root in it, a clean path; None: the one configured on the disk image.
        additional_space, shrink_to_fit, timestamp, index, limits: as in :class:`~drypoint.PreloadRequest`.

    Raises:
        UsageError: nothing is requested, or the parts contradict each other.
    """

    fleets: tuple[str, ...] = ()
    commit: str | None = None
    device: str | None = None
    pin_device: bool | None = None
    apps_json: tuple[Path, ...] = ()
    images: tuple[str, ...] = ()
    compose: Path | None = None
    supervisor_image: str | None = None
    supervisor_version: str | None = None
    boot: BootRequest = BootRequest()
    replace: bool = False
    check_architecture: bool = True
    save_apps_json: Path | None = None
    server: CloudServer = CloudServer()
    platform: Platform | None = None
    data_partition: str | int = DEFAULT_PARTITION
    data_root: bytes | None = None
    additional_space: int = 0
    shrink_to_fit: bool = False
    timestamp: int | None = None
    index: LayerIndex | None = None
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        has_apps = bool(self.apps_json or self.fleets) or self.device is not None
        if not (has_apps or self.images or self.compose or self.supervisor_image or not self.boot.is_empty):
            raise UsageError(
                "nothing to preload: give --fleet ORG/FLEET, --apps-json FILE, --image REF, --compose FILE or "
                "--supervisor-image REF"
            )
        if self.replace and not has_apps:
            raise UsageError("--replace needs the new release: give --apps-json FILE or --fleet ORG/FLEET with it")
        if self.supervisor_version is not None and self.supervisor_image is None and not has_apps:
            raise UsageError("--supervisor-version needs --supervisor-image REF, --apps-json FILE or --fleet ORG/FLEET")
