"""Which image the Supervisor of a version is.

Sources: meta-balena's ``balena-supervisor.bb`` asks balenaCloud for ``/v6/supervisor_release``, by ``supervisor_version`` (with
its v) and the architecture of the device type, and takes ``image_name``. open-balena-api dropped that resource (0.88.0):
there, and in newer balenaCloud models, a Supervisor is a release of the public fleet ``balena_os/<arch>-supervisor`` whose
``raw_version`` has no v (balena-sdk, ``getSupervisorReleasesForCpuArchitecture``).
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from ...errors import InvalidReferenceError, SourceError, UsageError
from ...oci import Reference, parse_reference
from ...oci.reference import DEFAULT_DOMAIN
from .client import CloudClient
from .fleet import CloudModel
from .query import odata_text

_VERSION = re.compile(r"v?([0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+_-]*)")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_TAG = re.compile(r"[0-9A-Za-z._-]{1,128}")
_NO_SUCH_RESOURCE = frozenset((400, 401, 404))


class _RawSupervisorRelease(msgspec.Struct):
    image_name: str | None = None


class _RawSupervisorReleases(msgspec.Struct):
    d: list[_RawSupervisorRelease]


class _RawImage(msgspec.Struct):
    is_stored_at__image_location: str
    content_hash: str | None = None


class _RawReleaseImage(msgspec.Struct):
    image: list[_RawImage] = []


class _RawRelease(msgspec.Struct):
    release_image: list[_RawReleaseImage] = []


def find_supervisor_image(client: CloudClient, version: str, arch: str) -> Reference:
    """The image of the Supervisor *version* (``v16.1.10``) for *arch* (``aarch64``), with the version as its tag.

    Raises:
        UsageError: one of the two is none.
        SourceError: the server knows no such Supervisor, or cannot be asked.
    """
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise UsageError(f"{version[:80]!r} is no version of the Supervisor; one looks like v16.1.10")
    if _ARCHITECTURE.fullmatch(arch) is None:
        raise UsageError(f"{arch[:80]!r} is no architecture; expected one of aarch64, amd64, armv7hf, i386, rpi")
    tag = f"v{match[1]}"
    name = _by_supervisor_release(client, match[1], arch) or _by_release(client, match[1], arch)
    if name is None:
        raise SourceError(
            f"{client.settings.host} knows no Supervisor v{match[1]} for {arch}; check the version (the tag of the image "
            "balena_supervisor on a device), or take another server with --api-url https://api.balena-cloud.com"
        )
    try:
        reference = parse_reference(name)
    except InvalidReferenceError as error:
        raise SourceError(
            f"{client.settings.host} names the Supervisor's image in a way that is no image's: {error}"
        ) from error
    if reference.domain == DEFAULT_DOMAIN and reference.digest is None and reference.tag == "latest":
        # Of releases before those in balena's own registry, only the repository on Docker Hub is noted; it is tagged by
        # version.
        return Reference(reference.domain, reference.path, tag)
    if reference.digest is not None and reference.tag is None and _TAG.fullmatch(tag) is not None:
        # The digest alone chooses the image. The tag tells people and --supervisor-image the version, which the image itself
        # need not.
        return replace(reference, tag=tag)
    return reference


def _by_supervisor_release(client: CloudClient, version: str, arch: str) -> str | None:
    path = "/v6/supervisor_release"
    chosen = (
        f"(supervisor_version eq {odata_text('v' + version)}) and "
        f"(is_for__device_type/any(ifdt:ifdt/is_of__cpu_architecture/any(ioca:ioca/slug eq {odata_text(arch)})))"
    )
    answer = client.get(
        path, [("$top", "1"), ("$select", "image_name"), ("$filter", chosen)], expected=_NO_SUCH_RESOURCE
    )
    if answer.status != 200:
        return None
    found = client.read(answer, _RawSupervisorReleases, path).d
    return found[0].image_name if found else None


def _by_release(client: CloudClient, version: str, arch: str) -> str | None:
    slug = odata_text(f"balena_os/{arch}-supervisor")
    chosen = (
        f"(raw_version eq {odata_text(version)}) and (status eq 'success') "
        f"and (belongs_to__application/any(a:a/slug eq {slug}))"
    )
    expand = "release_image($select=id;$expand=image($select=is_stored_at__image_location,content_hash))"
    found = CloudModel(client).rows(
        "release", _RawRelease, [("$top", "1"), ("$select", "id"), ("$filter", chosen), ("$expand", expand)]
    )
    for release in found:
        for part in release.release_image:
            for image in part.image:
                digest = f"@{image.content_hash}" if image.content_hash else ""
                return f"{image.is_stored_at__image_location.lower()}{digest}"
    return None
