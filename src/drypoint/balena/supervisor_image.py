"""The names and the version of the Supervisor's image.

Source: meta-balena, docker-disk/files/entry.sh: the build pulls the image by digest and tags it twice, with its repository's
name (so ``latest``) and as ``balena_supervisor:VERSION``, where VERSION starts with a v, as SUPERVISOR_VERSION does in
balena-supervisor.inc. The running OS starts the image by the digest in supervisor.conf.
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from ..errors import InvalidReferenceError, UsageError
from ..go_json import JsonError, decode_go
from ..oci import Image, Reference, parse_reference

REPOSITORY = "balena_supervisor"

_NAME = re.compile(r"(?:.+/)?(?:[a-z0-9]+-)*supervisor")
_VERSION = re.compile(r"v?([0-9]+\.[0-9]+\.[0-9]+.*)", re.DOTALL)


class _ContainerConfig(msgspec.Struct, rename="pascal"):
    env: list[str] | None = None


class _Config(msgspec.Struct):
    config: _ContainerConfig | None = None


def supervisor_tags(reference: Reference, version: str) -> tuple[Reference, ...]:
    """The tags that the Supervisor's image *reference* has on a device.

    Raises:
        UsageError: *version* is not a version.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise UsageError(f"{version[:80]!r} is not a version of the Supervisor; one looks like v18.2.2")
    try:
        own = parse_reference(f"{REPOSITORY}:{version_tag(match[1])}")
    except InvalidReferenceError as error:
        raise UsageError(f"the Supervisor's version {version[:80]!r} is not a valid tag: {error}") from error
    return (replace(reference, tag="latest", digest=None), own)


def version_tag(version: str) -> str:
    """The tag for a *version* without its v: ``v17.0.0_rev1`` for 17.0.0+rev1, because a tag cannot have a plus sign."""
    return f"v{version.replace('+', '_')}"


def is_supervisor(repository: str) -> bool:
    """Whether a repository has the name of Supervisor images, such as ``balena/aarch64-supervisor``."""
    return repository == REPOSITORY or _NAME.fullmatch(repository) is not None


def version_of(reference: Reference, image: Image) -> str | None:
    """The Supervisor's version from its tag, or else from its image (``ENV VERSION``, by its Dockerfile); None if unknown."""
    return version_in_tag(reference) or version_in_config(image.config.content)


def version_in_tag(reference: Reference) -> str | None:
    """The Supervisor's version from the tag of its image, or None."""
    return reference.tag if reference.tag is not None and _VERSION.fullmatch(reference.tag) else None


def version_in_config(content: bytes) -> str | None:
    """The Supervisor's version from the config of its image, or None."""
    try:
        config = decode_go(content, _Config).config
    except JsonError:
        return None
    for variable in (config.env if config is not None else None) or ():
        name, _, value = variable.partition("=")
        if name == "VERSION" and _VERSION.fullmatch(value):
            return value
    return None
