"""The images that a Compose file names.

Format: the Compose Specification (docs.docker.com/reference/compose-file): ``services.NAME.image``, with variables expanded.
What only Compose can resolve (``extends``, ``include``) is refused if it affects an image; ``docker compose config`` writes a
file without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..errors import InvalidReferenceError, UsageError
from ..oci import Reference, parse_reference
from .interpolation import interpolate

MAX_BYTES = 1 << 20
_MAX_TEXT = 4096
_RESOLVE = "run docker compose config, which writes a file without it, and use that file"


class ComposeImages(msgspec.Struct, frozen=True):
    """The images that a Compose file names.

    Attributes:
        images: of the services that start by default, in the file's order, each once.
        left_out: services that start only with a profile, and so are not preloaded.
    """

    images: tuple[Reference, ...]
    left_out: tuple[str, ...]


def read_compose(content: bytes, what: str, environment: Mapping[str, str]) -> ComposeImages:
    """Parse a Compose file; *what* is its name in messages, *environment* has the values of variables.

    Raises:
        UsageError: it is too large, is not YAML, or is not a Compose file; a service has no image, or one that only Compose can
            resolve; a required variable is not set.
    """
    services = _services(content, what)
    images: dict[Reference, None] = {}
    left_out: list[str] = []
    for name, service in services.items():
        where = f"{what}: service {str(name)[:80]!r}"
        if not isinstance(service, dict):
            raise UsageError(f"{where}: expected a mapping")
        if service.get("profiles"):
            left_out.append(str(name))
            continue
        images[_image(service, where, environment)] = None
    return ComposeImages(tuple(images), tuple(left_out))


def _decode(content: bytes, what: str) -> str:
    if len(content) > MAX_BYTES:
        raise UsageError(f"{what} has more than {MAX_BYTES} bytes, too many for a Compose file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not UTF-8 text: {error}") from error


def _services(content: bytes, what: str) -> dict[object, object]:
    # Imported here: it takes longer than the rest of the start.
    import yaml

    try:
        document: object = yaml.safe_load(_decode(content, what))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        shown = " ".join(str(error).split())
        raise UsageError(f"{what} is not well formed: {shown[:300]}") from error
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise UsageError(f"{what} is not a Compose file: expected a mapping 'services' at the top")
    if isinstance(document, dict) and document.get("include"):
        raise UsageError(f"{what} includes other files, which are not followed; {_RESOLVE}")
    return services


def _image(service: dict[object, object], where: str, environment: Mapping[str, str]) -> Reference:
    image = service.get("image")
    if image is None and "extends" in service:
        raise UsageError(f"{where} gets its image from another service (extends), which is not followed; {_RESOLVE}")
    if image is None and "build" in service:
        raise UsageError(
            f"{where} is built and names no image: build it, push it to a registry, and add an image: line"
        )
    if not isinstance(image, str) or not image:
        raise UsageError(f"{where}: expected image: to be a text")
    text = interpolate(image[:_MAX_TEXT], environment, where)
    try:
        return parse_reference(text)
    except InvalidReferenceError as error:
        unset = "" if text == image else f" (from {image[:100]!r})"
        raise UsageError(f"{where}: {error}{unset}") from error
