"""Finding the image of a version of the Supervisor.

Sources: open-balena-api, ``src/features/supervisor-app``: a Supervisor is a release of a public app ``balena_os/…-supervisor``
whose device type has the architecture; it is found by its semantic version, so that ``17.0.0`` means all revisions of it:
final ones first, then the highest revision, then the newest. Invalidated releases are ignored (balena-sdk,
``getSupervisorReleasesForCpuArchitecture``). Before 0.88.0, and still in ``/v6/`` of balenaCloud, there was a resource
``supervisor_release`` for that, by ``supervisor_version`` (with its v); meta-balena's ``balena-supervisor.bb`` takes
``image_name`` from there.
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from ...errors import InvalidReferenceError, SourceError, UsageError
from ...oci import Reference, parse_reference
from ...oci.reference import DEFAULT_DOMAIN
from ..supervisor_image import version_tag
from .client import CloudClient
from .fleet import CloudModel
from .query import odata_text

_VERSION = re.compile(r"v?([0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+_-]{0,90})")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
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


def check_supervisor_version(version: str, arch: str) -> str:
    """*version* without its v, after a check of its form and of *arch*.

    Raises:
        UsageError: one of the two is malformed.
    """
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise UsageError(f"{version[:80]!r} is not a version of the Supervisor; one looks like v16.1.10")
    if _ARCHITECTURE.fullmatch(arch) is None:
        raise UsageError(f"{arch[:80]!r} is not an architecture; expected one of aarch64, amd64, armv7hf, i386, rpi")
    return match[1]


def find_supervisor_image(client: CloudClient, version: str, arch: str) -> Reference:
    """The image of the Supervisor *version* (``v16.1.10``) for *arch* (``aarch64``), with the version as its tag.

    Raises:
        UsageError: one of the two is malformed.
        SourceError: the server has no such Supervisor, or cannot be reached.
    """
    number = check_supervisor_version(version, arch)
    tag = version_tag(number)
    # A tag cannot have a plus sign: v17.0.0_rev1 is 17.0.0+rev1.
    spelled = number.replace("_", "+", 1)
    name = _by_release(client, spelled, arch) or _by_supervisor_release(client, spelled, arch)
    if name is None:
        raise SourceError(
            f"{client.settings.host} has no Supervisor v{spelled} for {arch}, or only one that failed or was invalidated; "
            "check the version (the tag of the image balena_supervisor on a device), or use another server with --api-url "
            "https://api.balena-cloud.com"
        )
    try:
        reference = parse_reference(name)
    except InvalidReferenceError as error:
        raise SourceError(
            f"{client.settings.host} gives a Supervisor image name that is not a reference: {error}"
        ) from error
    if reference.domain == DEFAULT_DOMAIN and reference.digest is None and reference.tag == "latest":
        # Releases from before balena's own registry only have a repository on Docker Hub, with the version as tag.
        return Reference(reference.domain, reference.path, tag)
    if reference.digest is not None and reference.tag is None:
        # The digest chooses the image. The tag is for users, and for --supervisor-image: the image itself may lack the
        # version.
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
    literal = odata_text(version)
    # The semantic version does not contain the revision, so a given revision is found by the raw version.
    app = (
        "(startswith(a/slug,'balena_os/')) and (endswith(a/slug,'-supervisor')) and (a/is_public eq true) "
        "and (a/is_host eq false) "
        f"and (a/is_for__device_type/any(dt:dt/is_of__cpu_architecture/any(c:c/slug eq {odata_text(arch)})))"
    )
    chosen = (
        f"((semver eq {literal}) or (raw_version eq {literal})) and (status eq 'success') and (is_invalidated eq false) "
        f"and (belongs_to__application/any(a:{app}))"
    )
    expand = "release_image($select=id;$expand=image($select=is_stored_at__image_location,content_hash))"
    query = [
        ("$top", "1"),
        ("$select", "id"),
        ("$filter", chosen),
        ("$orderby", "is_final desc,revision desc,created_at desc"),
        ("$expand", expand),
    ]
    for release in CloudModel(client).rows("release", _RawRelease, query):
        for part in release.release_image:
            for image in part.image:
                digest = f"@{image.content_hash}" if image.content_hash else ""
                return f"{image.is_stored_at__image_location.lower()}{digest}"
    return None
