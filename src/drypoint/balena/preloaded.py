"""The Supervisor's images and the applications of apps.json in a data partition."""

from __future__ import annotations

import msgspec

from ..digest import Digest
from ..disk import Device
from ..errors import InvalidReferenceError, UsageError
from ..fstree import Regular, TreeReader
from ..oci import parse_reference
from ..stores import ReadStore, StoreContents
from .apps_json import ANY_VERSION, MAX_BYTES, AppsJson, read_apps_json
from .apps_json_images import AppsJsonImages
from .supervisor_image import REPOSITORY, is_supervisor, version_in_config, version_in_tag


class SupervisorImage(msgspec.Struct, frozen=True):
    """An image of the Supervisor in the store; *version*, without a v, is None if neither a tag nor the image has it."""

    image_id: Digest
    version: str | None


class PreloadedService(msgspec.Struct, frozen=True):
    """A service of an apps.json.

    Attributes:
        image: the reference by which the Supervisor looks up the image.
        image_id: the image that it finds in the store, or None.
        usable: whether the engine can load that image.
    """

    app_uuid: str
    app_name: str
    release_uuid: str
    name: str
    image: str
    image_id: Digest | None
    usable: bool


class PreloadedApps(msgspec.Struct, frozen=True):
    """An apps.json in the data partition.

    Attributes:
        path: of the file; ``apps.json.preloaded`` once a Supervisor has taken it.
        pin_device: whether the device stays on that release.
        services: of all apps, in the order of the file.
        notes: faults of the file.
    """

    path: bytes
    pin_device: bool
    services: tuple[PreloadedService, ...]
    notes: tuple[str, ...]


def find_supervisors(reader: TreeReader, store: ReadStore) -> tuple[SupervisorImage, ...]:
    """The Supervisor's images in *store*, which is in the tree *reader*; sorted by version.

    Raises:
        FilesystemError: the tree cannot be read.
    """
    found: dict[Digest, str | None] = {}
    # The additional name of a balenaOS build, balena_supervisor:VERSION, comes last, so that it takes precedence.
    for name, references in sorted(store.contents.names.items(), key=lambda item: (item[0] == REPOSITORY, item[0])):
        if not is_supervisor(name):
            continue
        for text, image_id in sorted(references.items()):
            version = _version(reader, store, text, Digest(image_id))
            found[Digest(image_id)] = version or found.get(Digest(image_id))
    known = store.contents.images
    supervisors = [SupervisorImage(image_id, version) for image_id, version in found.items() if image_id in known]
    return tuple(sorted(supervisors, key=lambda one: (one.version or "", one.image_id)))


def find_apps(device: Device, reader: TreeReader, stored: StoreContents | None) -> PreloadedApps | None:
    """The applications of the apps.json in the root of *reader*, a partition of *device*; None if it is missing or empty.

    Raises:
        FilesystemError: the tree cannot be read.
    """
    required = AppsJsonImages().on(device)(reader, stored.names if stored is not None else {})
    if not required.path:
        return None
    notes = tuple(finding.text for finding in required.findings)
    apps = _apps_json(reader, required.path)
    if apps is None or len(apps.services) != len(required.images):
        return PreloadedApps(required.path, apps is not None and apps.pin_device, (), notes)
    services = tuple(
        PreloadedService(
            service.app_uuid,
            service.app_name,
            service.release_uuid,
            service.name,
            str(service.image),
            image.image_id,
            image.image_id is not None and stored is not None and stored.loads(image.image_id),
        )
        for service, image in zip(apps.services, required.images, strict=True)
    )
    return PreloadedApps(required.path, apps.pin_device, services, notes)


def _apps_json(reader: TreeReader, path: bytes) -> AppsJson | None:
    stat = reader.lookup(path)
    if stat is None or not isinstance(stat.entry, Regular) or stat.entry.size > MAX_BYTES:
        return None
    try:
        return read_apps_json(b"".join(bytes(chunk) for chunk in reader.read(stat)), path.decode("ascii"), ANY_VERSION)
    except UsageError:
        # AppsJsonImages has the finding that says why.
        return None


def _version(reader: TreeReader, store: ReadStore, text: str, image_id: Digest) -> str | None:
    try:
        version = version_in_tag(parse_reference(text))
    except InvalidReferenceError:
        return None
    if version is None:
        content = store.config(reader, image_id)
        version = version_in_config(content) if content is not None else None
    return version.removeprefix("v") if version is not None else None
