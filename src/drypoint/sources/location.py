"""Parsing the location of an image: in a registry, an OCI layout, or a docker archive.

    alpine:3.20                            a registry, as for docker pull
    oci:PATH[:IMAGE]                       an OCI image layout, directory or tar (oci-archive: is the same)
    docker-archive:PATH[:IMAGE]            what docker save wrote
    NAME=oci:PATH[:IMAGE]                  the same, stored on the device as NAME

The prefixes are skopeo's and podman's; as there, PATH ends at its first colon. IMAGE selects one of several, by a name or
tag that the archive has for it, or by digest. NAME is needed if the archive has no full name for the image, and replaces one.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TypeAlias, assert_never

import msgspec

from ..errors import UsageError
from ..oci import Reference, parse_reference
from .docker_archive import DockerArchiveSource
from .oci_layout import OciLayoutSource


class ArchiveKind(Enum):
    OCI = "oci"
    DOCKER = "docker-archive"


class ArchiveLocation(msgspec.Struct, frozen=True):
    """An image, or all images, of a local archive.

    Attributes:
        image: the one to take, by the archive's name; None for the only one, or all.
        name: its name in the store; None for the archive's.
    """

    kind: ArchiveKind
    path: Path
    image: str | None = None
    name: Reference | None = None


Location: TypeAlias = Reference | ArchiveLocation
"""A plain :class:`Reference` is an image in a registry."""

_PREFIXES = {"oci": ArchiveKind.OCI, "oci-archive": ArchiveKind.OCI, "docker-archive": ArchiveKind.DOCKER}


def parse_location(text: str) -> Location:
    """Parse a location, see the module; the file system is not accessed.

    Raises:
        UsageError: no path, or a ``NAME=`` before a registry's reference.
        InvalidReferenceError: a name is not an image reference, or has a digest.
    """
    name_text, equals, rest = text.partition("=")
    if not equals or any(name_text.startswith(prefix + ":") for prefix in _PREFIXES):
        # An equals sign after the prefix belongs to the path.
        equals, rest = "", text
    prefix, colon, place = rest.partition(":")
    kind = _PREFIXES.get(prefix) if colon else None
    if kind is None:
        if equals:
            raise UsageError(f"{text!r}: NAME= goes only before oci:PATH or docker-archive:PATH")
        return parse_reference(text)
    path, colon, image = place.partition(":")
    if not path or (colon and not image):
        raise UsageError(f"{text!r}: expected {prefix}:PATH or {prefix}:PATH:IMAGE")
    name = parse_reference(name_text) if equals else None
    if name is not None and name.digest is not None:
        raise UsageError(f"{text!r}: a name to store an image under has a tag, not a digest")
    return ArchiveLocation(kind, Path(path), image or None, name)


def open_archive(location: ArchiveLocation) -> OciLayoutSource | DockerArchiveSource:
    """The source for *location*; its ``references`` can be resolved.

    Raises:
        SourceError, ContentError: as the sources' constructors.
    """
    match location.kind:
        case ArchiveKind.OCI:
            return OciLayoutSource(location.path, location.image, location.name)
        case ArchiveKind.DOCKER:
            return DockerArchiveSource(location.path, location.image, location.name)
        case _:
            assert_never(location.kind)
