"""The images of an apps.json, looked up in the store as the Supervisor does at first boot without a network.

Source: balena-supervisor, src/device-state/preload.ts (loadTargetFromFile) and src/compose/images.ts (inspectByName): the exact
reference; else any image of the same repository; else an image that it has recorded with the same digest. It looks up all
images first, and ignores the file if one of them is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec
from msgspec.structs import replace

from ..digest import Digest
from ..disk import Device
from ..errors import UsageError
from ..fstree import Regular, TreeReader
from ..oci import Reference
from ..stores import Names
from ..verification import Finding, RequiredImage, RequiredImages, finding
from .apps_json import ANY_VERSION, MAX_BYTES, AppsJson, read_apps_json
from .compatibility import check_as_it_is, fit
from .os_root import SupervisorConf, read_supervisor_conf
from .running_supervisor import RunningSupervisor, supervisor_by
from .target_state import Service

PATHS = (b"apps.json", b"apps.json.preloaded")
"""The file's paths in the data partition; the latter once the Supervisor has taken it, with ``{}`` in the former."""


class AppsJsonImages:
    """The images that the services of an apps.json need: a :data:`~drypoint.verification.RequiredImagesReader`.

    Args:
        apps: the apps.json; None for the one in the partition, if there is one.
        supervisor: the Supervisor that reads it; None for the one that the disk image starts, if that is known.
    """

    def __init__(self, apps: AppsJson | None = None, supervisor: RunningSupervisor | None = None) -> None:
        self._apps = apps
        self._supervisor = supervisor
        self._conf: SupervisorConf | None = None

    def on(self, device: Device) -> AppsJsonImages:
        """This reader for the disk image *device*, whose root file system names the Supervisor that starts."""
        found = AppsJsonImages(self._apps, self._supervisor)
        found._conf = read_supervisor_conf(device)
        return found

    def __call__(self, tree: TreeReader, names: Names) -> RequiredImages:
        supervisor = self._supervisor or supervisor_by(self._conf, names)
        if self._apps is not None:
            return _with_faults(_required_images(b"", self._apps, names), self._apps, supervisor)
        for path in PATHS:
            content = _read(tree, path)
            if content is None or content.strip() in (b"", b"{}"):
                continue
            if _is_version_1(content):
                return RequiredImages(path, findings=(finding("unchecked-apps-json", path, "it is of version 1"),))
            try:
                apps = read_apps_json(content, path.decode("ascii"), ANY_VERSION)
            except UsageError as error:
                return RequiredImages(path, findings=(finding("bad-apps-json", path, str(error)),))
            required = _required_images(path, apps, names)
            # A Supervisor has accepted that file already, so it is not checked.
            return required if path == PATHS[1] else _with_faults(required, apps, supervisor)
        return RequiredImages()


def look_up(reference: Reference, names: Names) -> tuple[Digest | None, bool]:
    """The image that the Supervisor finds for *reference*, and whether it is found by the exact reference."""
    known = names.get(reference.familiar_name, {})
    exact = known.get(_looked_up(reference))
    if exact is not None:
        return Digest(exact), True
    if reference.digest is not None and known:
        return Digest(known[min(known)]), False
    return None, False


def images_not_there(apps: AppsJson, names: Names, coming: Collection[Reference] = ()) -> tuple[Service, ...]:
    """The services of *apps* that the Supervisor could not start offline: their image's exact reference is neither in
    *names*, those of the store, nor in *coming*."""
    written = {_looked_up(reference) for reference in coming}
    return tuple(
        service
        for service in apps.services
        if _looked_up(service.image) not in written and not look_up(service.image, names)[1]
    )


def _looked_up(reference: Reference) -> str:
    """The text by which the Supervisor looks up *reference*: with a digest, the tag is dropped."""
    return (reference if reference.digest is None else reference.with_digest(reference.digest)).familiar


def _required_images(path: bytes, apps: AppsJson, names: Names) -> RequiredImages:
    noted: dict[str, Digest] = {}
    images: list[RequiredImage] = []
    findings: list[Finding] = []
    for service in apps.services:
        image_id, exact = look_up(service.image, names)
        digest = service.image.digest
        if image_id is None and digest is not None:
            image_id, exact = noted.get(digest), True
        if image_id is not None and not exact:
            findings.append(
                finding(
                    "other-image",
                    path,
                    f"{_name(service)} runs {service.image}; the store only has another image of that repository, {image_id}",
                )
            )
        if image_id is not None and digest is not None:
            noted.setdefault(digest, image_id)
        images.append(RequiredImage(_name(service), str(service.image), image_id))
    return RequiredImages(path, tuple(images), tuple(findings))


def _with_faults(required: RequiredImages, apps: AppsJson, supervisor: RunningSupervisor | None) -> RequiredImages:
    """*required* with the faults for which *supervisor* would ignore *apps*, converted to its version first if needed."""
    if supervisor is None:
        return required
    check = check_as_it_is if required.path else fit
    try:
        check(apps, supervisor.version, said_by=supervisor.said_by)
    except UsageError as error:
        return replace(required, findings=(*required.findings, finding("bad-apps-json", required.path, str(error))))
    return required


def _name(service: Service) -> str:
    return f"{service.app_name}/{service.name}"


def _read(tree: TreeReader, path: bytes) -> bytes | None:
    stat = tree.lookup(path)
    if stat is None or not isinstance(stat.entry, Regular):
        return None
    return b"".join(_at_most(tree.read(stat), MAX_BYTES + 1))


def _at_most(chunks: Iterator[memoryview], limit: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield bytes(chunk[:limit])
        limit -= len(chunk)
        if limit <= 0:
            return


def _is_version_1(content: bytes) -> bool:
    """Whether *content* is a list, which is how the Supervisor recognises version 1."""
    try:
        state: object = msgspec.json.decode(content[: MAX_BYTES + 1])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return isinstance(state, list)
