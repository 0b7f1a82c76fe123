"""The Supervisor's image, named as balenaOS finds it.

Source: meta-balena, docker-disk/files/entry.sh: the build pulls the image by digest and tags it twice, with its repository's
name (so ``latest``) and as ``balena_supervisor:VERSION``, where VERSION starts with a v, as SUPERVISOR_VERSION does in
balena-supervisor.inc. The running OS starts the image by the digest in supervisor.conf.
"""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec

from ..errors import InvalidReferenceError, UsageError
from ..oci import Image, Reference, parse_reference

REPOSITORY = "balena_supervisor"

_VERSION = re.compile(r"v?([0-9]+\.[0-9]+\.[0-9]+.*)", re.DOTALL)


class _ContainerConfig(msgspec.Struct, rename="pascal"):
    env: list[str | None] | None = None


class _Config(msgspec.Struct):
    config: _ContainerConfig | None = None


def supervisor_tags(reference: Reference, version: str) -> tuple[Reference, ...]:
    """The names that the Supervisor's image *reference* has on a device besides its digest.

    Raises:
        UsageError: *version* is none.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise UsageError(f"{version[:80]!r} is no version of the Supervisor; one looks like v18.2.2")
    try:
        own = parse_reference(f"{REPOSITORY}:v{match[1]}")
    except InvalidReferenceError as error:
        raise UsageError(f"the Supervisor's version {version[:80]!r} cannot be a tag: {error}") from error
    return (replace(reference, tag="latest", digest=None), own)


def version_of(reference: Reference, image: Image) -> str | None:
    """The Supervisor's version, as its tag says, or else its image (``ENV VERSION``, its Dockerfile); None if neither does."""
    if reference.tag is not None and _VERSION.fullmatch(reference.tag):
        return reference.tag
    config = msgspec.json.decode(image.config.content, type=_Config).config
    for variable in (config.env if config is not None else None) or ():
        name, _, value = (variable or "").partition("=")
        if name == "VERSION" and _VERSION.fullmatch(value):
            return value
    return None
