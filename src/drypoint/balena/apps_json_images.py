"""How the Supervisor finds the images of an apps.json in the engine, at first boot and without a network.

Source: balena-supervisor, src/device-state/preload.ts (loadTargetFromFile) and src/compose/images.ts (inspectByName): the exact
reference; else whatever image lies in the same repository; else an image that it has noted under the same digest. It
looks up all images before it takes any of them, and gives up on the file with the first that it does not find.
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
"""Where the file lies in the data partition; the latter after the Supervisor has taken it, with ``{}`` in the former."""


class AppsJsonImages:
    """What the services of an apps.json will ask for: a :data:`~drypoint.verification.RequiredImagesReader`.

    Args:
        apps: the one to go by; None for that which is in the partition, if any.
        supervisor: which reads it; None for the one that the disk image starts, as far as that is known.
    """

    def __init__(self, apps: AppsJson | None = None, supervisor: RunningSupervisor | None = None) -> None:
        self._apps = apps
        self._supervisor = supervisor
        self._conf: SupervisorConf | None = None

    def on(self, device: Device) -> AppsJsonImages:
        """The same for the disk image *device*, whose root file system says which Supervisor starts."""
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
            # What a Supervisor has taken already, this one need not take.
            return required if path == PATHS[1] else _with_faults(required, apps, supervisor)
        return RequiredImages()


def look_up(reference: Reference, names: Names) -> tuple[Digest | None, bool]:
    """The image that the Supervisor finds for *reference*, and whether the reference is what found it."""
    known = names.get(reference.familiar_name, {})
    exact = known.get(_looked_up(reference))
    if exact is not None:
        return Digest(exact), True
    if reference.digest is not None and known:
        return Digest(known[min(known)]), False
    return None, False


def images_not_there(apps: AppsJson, names: Names, coming: Collection[Reference] = ()) -> tuple[Service, ...]:
    """The services of *apps* that the Supervisor could not start offline: the exact reference of their image is neither in
    *names*, the store's, nor among those *coming*."""
    written = {_looked_up(reference) for reference in coming}
    return tuple(
        service
        for service in apps.services
        if _looked_up(service.image) not in written and not look_up(service.image, names)[1]
    )


def _looked_up(reference: Reference) -> str:
    """How the Supervisor asks for *reference*: a tag beside a digest is dropped."""
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
    """*required* with what keeps *supervisor* from taking *apps*, which may have to be made into another version first."""
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
    """Whether it is a list, as the Supervisor recognises version 1."""
    try:
        state: object = msgspec.json.decode(content[: MAX_BYTES + 1])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return isinstance(state, list)
