"""The images that a user names, and their sources."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..disk.host.input_files import read_file
from ..errors import ImageNotFoundError, UsageError
from ..jobs.request import ImageRequest
from ..oci import Platform, Reference
from ..sources import ImageSource, OciLayoutSource, open_archive, parse_location
from ..sources.compose import MAX_BYTES as MAX_COMPOSE_BYTES
from ..sources.compose import read_compose
from ..sources.dotenv import MAX_ENVIRONMENT_BYTES, read_environment
from .apps_supervisor import Warn
from .request import BalenaRequest
from .supervisor_image import supervisor_tags, version_of


class AtHand:
    """The images of apps.json that OCI layouts on this machine have, by digest; the others come from the registry."""

    def __init__(self, wanted: Sequence[Reference], registry: ImageSource, platform: Platform) -> None:
        self._wanted = wanted
        self._registry = registry
        self._platform = platform
        self._found: dict[Reference, ImageSource] = {}

    def look_in(self, layout: OciLayoutSource) -> bool:
        """Whether *layout* has any of them."""
        found = False
        for reference in self._wanted:
            if reference.digest is None:
                continue
            try:
                layout.resolve(reference, self._platform)
            except ImageNotFoundError:
                continue
            self._found.setdefault(reference, layout)
            found = True
        return found

    def request(self, reference: Reference) -> ImageRequest:
        return ImageRequest(reference, self._found.get(reference, self._registry))


def named_registries(wanted: BalenaRequest, composed: Iterable[Reference]) -> frozenset[str]:
    """The domains of the registries that the user names: in references, and in the Compose file, whose images are *composed*.
    An apps.json may come from somewhere.

    Raises:
        UsageError: a name is not one.
    """
    texts = wanted.images if wanted.supervisor_image is None else (*wanted.images, wanted.supervisor_image)
    locations = [parse_location(text) for text in texts]
    named = (location for location in locations if isinstance(location, Reference))
    return frozenset(reference.domain for reference in (*named, *composed))


def image_requests(
    images: Sequence[str], registry: ImageSource, at_hand: AtHand, stack: ExitStack
) -> Iterator[ImageRequest]:
    """The images that *images* name, each a reference or a location; *stack* closes the archives.

    Raises:
        UsageError, SourceError, ContentError: a name is malformed, or an archive cannot be read.
    """
    for text in images:
        location = parse_location(text)
        if isinstance(location, Reference):
            yield ImageRequest(location, registry)
            continue
        archive = open_archive(location)
        stack.callback(archive.close)
        if location.name is None and isinstance(archive, OciLayoutSource) and at_hand.look_in(archive):
            # Other images in it were not requested.
            continue
        for reference in archive.references:
            yield ImageRequest(reference, archive)


def supervisor_request(
    wanted: BalenaRequest, registry: ImageSource, platform: Platform, stack: ExitStack
) -> ImageRequest | None:
    """The Supervisor's image to preload, with the names that balenaOS gives it, or None."""
    if wanted.supervisor_image is None:
        return None
    found = list(image_requests([wanted.supervisor_image], registry, AtHand((), registry, platform), stack))
    if len(found) != 1:
        raise UsageError(f"--supervisor-image {wanted.supervisor_image} names {len(found)} images; expected one")
    request = found[0]
    version = wanted.supervisor_version or version_of(
        request.reference, request.source.resolve(request.reference, platform)
    )
    if version is None:
        raise UsageError(
            f"neither the tag of {request.reference} nor the image says the Supervisor's version; give --supervisor-version"
        )
    return ImageRequest(request.reference, request.source, supervisor_tags(request.reference, version))


def compose_images(path: Path | None, warn: Warn) -> tuple[Reference, ...]:
    """The images of the services of the Compose file *path*, with its .env and the environment.

    Raises:
        UsageError, ContentError: one of them cannot be read, or is malformed.
    """
    if path is None:
        return ()
    default = path.parent / ".env"
    environment: dict[str, str] = {}
    if default.is_file():
        environment = read_environment(read_file(default, MAX_ENVIRONMENT_BYTES), str(default), os.environ)
    found = read_compose(read_file(path, MAX_COMPOSE_BYTES), str(path), {**environment, **os.environ})
    if found.left_out:
        warn(f"{path}: not preloaded, because these services have a profile: {', '.join(found.left_out)}")
    return found.images
